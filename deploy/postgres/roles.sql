-- The roles of Counterfoil on PostgreSQL 15 or later. Run as a superuser on the database of the deployment; again does no harm:
--
--   createdb counterfoil
--   psql --dbname counterfoil --file deploy/postgres/roles.sql
--
-- Row-level security hides other tenants' rows from whoever it is forced on: from counterfoil_app, because it is no superuser
-- and cannot bypass it, and from counterfoil_owner, because every table of a tenant forces it on its owner too. What
-- counterfoil_app cannot do is take it away: it owns nothing. Passwords, or certificates, are yours to set.

-- counterfoil_owner owns the tables and runs migrations, nothing else: `migration_database_url`.
-- counterfoil_app is what services work as: `database_url`.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['counterfoil_owner', 'counterfoil_app'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', name);
        END IF;
    END LOOP;
END $$;

-- One schema a service, made by the owner at the first start.
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO counterfoil_owner', current_database()); END $$;

-- What the owner makes, the services read and write, and never define. TRUNCATE and REFERENCES pass row-level security by.
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_owner GRANT USAGE ON SCHEMAS TO counterfoil_app;
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO counterfoil_app;
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_owner GRANT USAGE ON SEQUENCES TO counterfoil_app;
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_owner GRANT EXECUTE ON FUNCTIONS TO counterfoil_app;
