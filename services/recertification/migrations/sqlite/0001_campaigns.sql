-- Campaigns, their sources and their items. Times are milliseconds; names are those of records, without the tenant.

-- One row a campaign. Its definition never changes.
CREATE TABLE campaigns (
    tenant            TEXT   NOT NULL, -- id
    campaign          TEXT   NOT NULL, -- id
    display_name      TEXT   NOT NULL, -- shown to people; only its commitment is in the record
    sources           TEXT   NOT NULL, -- "sources/{source}" in scope, one a line; empty = all
    privileged_only   BIGINT NOT NULL, -- 0 or 1
    include_inherited BIGINT NOT NULL, -- 0 or 1
    lapse_rule        BIGINT NOT NULL, -- 1 revoke, 2 retain as debt
    owner             TEXT   NOT NULL, -- "principals/{principal}"
    fallback_reviewer TEXT   NOT NULL, -- "principals/{principal}"
    due_ms            BIGINT NOT NULL, -- when the review ends
    create_ms         BIGINT NOT NULL,
    defined_hash      BLOB   NOT NULL, -- SHA-256 of its CampaignDefined record
    state             BIGINT NOT NULL, -- model::campaign::CampaignState
    attempt           TEXT   NOT NULL, -- who reads the population; a later attempt takes over, the earlier one gives up
    snapshot          TEXT,            -- from here on set when staged: "snapshots/{snapshot}"
    population_root   BLOB,
    population_count  BIGINT,
    staged_hash       BLOB,           -- SHA-256 of its CampaignStaged record
    end_actor         TEXT,            -- who ended the review, when, by what right and under which policy: a step that was
    end_ms            BIGINT,          -- cut off goes on in their name; set from the end of the review on
    end_right         BLOB,            -- NULL when a rule ended it
    end_owner         TEXT,            -- the human who owns the outcome
    end_policy        BLOB,
    stage_closed_hash BLOB,            -- SHA-256 of its StageClosed record; set when the review has ended
    debt_count        BIGINT NOT NULL, -- open after the close
    PRIMARY KEY (tenant, campaign)
);
-- ListCampaigns, newest first.
CREATE INDEX campaigns_by_age ON campaigns (tenant, create_ms, campaign);
-- What the jobs look for: reviews that are due, steps that were cut off.
CREATE INDEX campaigns_by_state ON campaigns (state, due_ms);

-- Sources in scope of a staged campaign: from the prefix of a grant's key to its source.
CREATE TABLE campaign_sources (
    tenant     TEXT  NOT NULL,
    campaign   TEXT  NOT NULL,
    source_tag BLOB NOT NULL, -- first 8 bytes of the source's grant keys
    source     TEXT  NOT NULL, -- "sources/{source}"
    PRIMARY KEY (tenant, campaign, source_tag)
);

-- One row an item: a grant of the population. Written in batches; presentation and leaf change only when it is shown again.
CREATE TABLE items (
    tenant            TEXT   NOT NULL,
    campaign          TEXT   NOT NULL,
    grant_key         BLOB   NOT NULL, -- 40 bytes; the item's id is this in hex
    leaf              BLOB   NOT NULL, -- 74 bytes: the grant as shown
    subject_key       TEXT   NOT NULL, -- identity whose access it is; empty for an account without one
    owner_key         TEXT   NOT NULL, -- identity that owns the entitlement; empty when nobody does
    presentation      BLOB   NOT NULL, -- what is shown, canonical bytes
    state             BIGINT NOT NULL, -- model::item::ItemState
    reviewer          TEXT,            -- "principals/{principal}"; from here on set when routed
    presentation_hash BLOB,           -- commitment to what is shown
    disposition       BIGINT NOT NULL, -- 0 while open, else evidence.v1.Disposition
    decide_ms         BIGINT NOT NULL, -- when it was decided or ended; 0 while open
    decided_by        TEXT,            -- "principals/{principal}"; NULL for a lapse
    not_after_ms      BIGINT NOT NULL, -- until when the access may be there; 0 when it goes
    reduce_to         BLOB,           -- REDUCE: the grant that stays
    record_hash       BLOB,           -- SHA-256 of the record that decided or ended it
    stream_seq        BIGINT NOT NULL, -- that record's place in the stream: the order of decisions
    verified_hash     BLOB,           -- SHA-256 of the EffectVerified record of its removal
    PRIMARY KEY (tenant, campaign, grant_key)
) WITHOUT ROWID;
-- Counts, lists by state, and the next batch to route or to lapse.
CREATE INDEX items_by_state ON items (tenant, campaign, state, disposition, grant_key);
-- StreamDecidedGrants: what says something about a grant, over all campaigns.
CREATE INDEX items_decided ON items (tenant, grant_key, stream_seq) WHERE disposition BETWEEN 1 AND 5;
