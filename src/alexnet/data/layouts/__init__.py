"""The layouts that labelled pictures come in, one file each."""
