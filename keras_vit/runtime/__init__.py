"""What runs an exported file with what is in the file and nothing else, as a client does that has never seen the model.

Shares no code with the rest of the package, above all not with what writes the files: it is what proves them.
"""
