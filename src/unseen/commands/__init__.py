"""The commands, by what they are for: each a dataclass whose fields are its flags, and whose call does it."""
