-- Where a source lies, as codes: decision rights may be limited to some. Empty: the environment "default", and no tier.
ALTER TABLE sources ADD COLUMN environment TEXT NOT NULL DEFAULT '';
ALTER TABLE sources ADD COLUMN tier TEXT NOT NULL DEFAULT '';
