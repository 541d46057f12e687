-- SQLite has no row-level security. This keeps the numbers of both engines together.
SELECT 1;
