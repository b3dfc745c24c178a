"""English: captions of scenes, descriptions of identities, and identities out of descriptions."""
