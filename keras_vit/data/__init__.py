"""Images on the way in: found, decoded, cropped, augmented and batched."""
