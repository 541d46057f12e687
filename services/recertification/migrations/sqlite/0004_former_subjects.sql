-- Keys of the identities whose access an item was before its grant came to belong to another one, a line each: they decide nothing on it.
ALTER TABLE items ADD COLUMN former_subjects TEXT NOT NULL DEFAULT '';
