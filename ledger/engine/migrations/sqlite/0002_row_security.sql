-- SQLite has no row-level security: the statements' own conditions stand alone. This keeps the numbers of both engines together.
SELECT 1;
