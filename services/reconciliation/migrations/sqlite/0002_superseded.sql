-- The newer decision that superseded the one an action carries out: SHA-256 of its record. NULL: none did.
ALTER TABLE actions ADD COLUMN superseded_by BLOB;
