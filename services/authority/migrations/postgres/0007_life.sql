-- Whether a tenant that is suspended stopped itself: then whoever runs the deployment does not let it go on. Written by SuspendTenant.
ALTER TABLE tenants ADD COLUMN stopped_itself BIGINT NOT NULL DEFAULT 0; -- 1: somebody of its own suspended it
