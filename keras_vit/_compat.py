"""Every use of a private or unstable name of another library, in one place."""
