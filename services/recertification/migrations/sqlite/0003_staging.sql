-- What staging was begun with, so that the service carries it on without the call that began it.

-- When whoever reads the population last showed a sign of life; `attempt` is empty when nobody does.
ALTER TABLE campaigns ADD COLUMN attempt_ms BIGINT NOT NULL DEFAULT 0;
-- Set from the beginning of staging on: "snapshots/{snapshot}" that is read.
ALTER TABLE campaigns ADD COLUMN stage_snapshot TEXT;
-- How old its sources may be: the limit of the policy below.
ALTER TABLE campaigns ADD COLUMN stage_age_max_ms BIGINT;
-- Who began it, when, by what right and under which policy: a staging that was cut off goes on in their name.
ALTER TABLE campaigns ADD COLUMN stage_actor TEXT;
ALTER TABLE campaigns ADD COLUMN stage_ms BIGINT;
ALTER TABLE campaigns ADD COLUMN stage_right BLOB;
-- The human who owns the outcome.
ALTER TABLE campaigns ADD COLUMN stage_owner TEXT;
ALTER TABLE campaigns ADD COLUMN stage_policy BLOB;
-- Id of its CampaignStaged record; NULL in campaigns that were staged before this column.
ALTER TABLE campaigns ADD COLUMN staged_record_id BLOB;
