-- A statement sees the logs that its transaction names, and no others: `counterfoil.logs` has their numbers, separated by commas
-- (a commit writes to several). Which number a tenant's log has, `logs` tells to a transaction that names the tenant in
-- `counterfoil.tenant`; `*` reads all of them. A transaction that names nothing sees nothing. Forced on the owner too; a superuser
-- walks through.

ALTER TABLE logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS counterfoil_tenant ON logs;
DROP POLICY IF EXISTS counterfoil_everything ON logs;
CREATE POLICY log_tenant ON logs
    USING (tenant = current_setting('counterfoil.tenant'))
    WITH CHECK (tenant = current_setting('counterfoil.tenant'));
CREATE POLICY log_everything ON logs FOR SELECT USING (current_setting('counterfoil.tenant') = '*');

DO $$
DECLARE
    part TEXT;
    named CONSTANT TEXT := 'log_id = ANY (string_to_array(current_setting(''counterfoil.logs''), '','')::bigint[])';
BEGIN
    FOREACH part IN ARRAY ARRAY['log_heads', 'log_entries', 'log_subjects', 'log_streams', 'log_producer_keys', 'log_tiles'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', part);
        EXECUTE format('DROP POLICY IF EXISTS counterfoil_tenant ON %I', part);
        EXECUTE format('DROP POLICY IF EXISTS counterfoil_everything ON %I', part);
        EXECUTE format('CREATE POLICY log_named ON %I USING (%s) WITH CHECK (%s)', part, named, named);
    END LOOP;
END $$;
