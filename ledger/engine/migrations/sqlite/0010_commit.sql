-- PostgreSQL takes a batch in one call, because each call is a way to another process and back. SQLite is in this one: nothing is to be done.
SELECT 1;
