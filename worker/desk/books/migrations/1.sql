-- What the books were built from. One row.
CREATE TABLE journal (
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  stream        TEXT NOT NULL,    -- RENEWAL_JOURNAL
  created_at    TEXT NOT NULL,    -- when the broker created the stream: another time is another journal
  last_sequence INTEGER NOT NULL, -- of the last record read; 0: none
  fingerprint   TEXT NOT NULL,    -- of that record: another one at its place is another journal
  stored_at     TEXT              -- when the broker stored that record
) STRICT;

-- One row per renewal: a period of a subscription, or the stand-in of a job without a valid identity.
CREATE TABLE renewals (
  id                  INTEGER PRIMARY KEY,
  name                TEXT NOT NULL UNIQUE,       -- as subjects have it: <esc(subscription)>.<esc(period)>
  renewal_key         TEXT NOT NULL,
  stands_in           INTEGER NOT NULL DEFAULT 0, -- 1: for a job without a valid identity, or in conflict
  subscription_id     TEXT,
  period              TEXT,
  account             TEXT NOT NULL,
  phase               TEXT NOT NULL,              -- none, charging, pending, paid, dunning, unresolved, cancelled, capturing, captured, capture_failed
  due_at              TEXT,
  attempts            INTEGER NOT NULL DEFAULT 0,
  order_amount        INTEGER,                    -- minor units
  purchase_currency   TEXT,
  merchant_reference1 TEXT,
  merchant_reference2 TEXT,
  order_id            TEXT,                       -- the order that paid it, or that is pending
  paid_at             TEXT,                       -- when the paid record was written
  captured_amount     INTEGER,                    -- minor units; asked for with the order, or by captures
  reason              TEXT,                       -- of the last refusal, or of what is unresolved; NULL once paid
  category            TEXT,
  open_message_id     TEXT,                       -- of a claim that has no result yet
  open_key            TEXT,
  first_sequence      INTEGER NOT NULL,           -- of its records in these books
  last_sequence       INTEGER NOT NULL,
  records             INTEGER NOT NULL
) STRICT;
CREATE INDEX renewals_subscription ON renewals (subscription_id, period);
CREATE INDEX renewals_key ON renewals (renewal_key);
CREATE INDEX renewals_phase ON renewals (phase, account);
CREATE INDEX renewals_open_message ON renewals (open_message_id) WHERE open_message_id IS NOT NULL;
CREATE INDEX renewals_open_key ON renewals (open_key) WHERE open_key IS NOT NULL;

-- One row per record of the journal, by its sequence.
CREATE TABLE records (
  sequence              INTEGER PRIMARY KEY,
  renewal_id            INTEGER NOT NULL REFERENCES renewals (id),
  kind                  TEXT NOT NULL,
  account               TEXT NOT NULL,
  at                    TEXT NOT NULL, -- by the writer's clock
  stored_at             TEXT NOT NULL, -- by the broker's
  message_id            TEXT,
  idempotency_key       TEXT,
  attempt               INTEGER,
  amount                INTEGER,       -- minor units that this record is about: the capture's, else the order's
  order_amount          INTEGER,
  purchase_currency     TEXT,
  merchant_reference1   TEXT,
  merchant_reference2   TEXT,
  tries                 INTEGER NOT NULL DEFAULT 0,
  deliveries            INTEGER NOT NULL DEFAULT 0,
  worker                TEXT,
  token_fingerprint     TEXT,
  order_id              TEXT,
  fraud_status          TEXT,
  captured              INTEGER,       -- of paid: 1 where the order's own capture was asked for
  capture_before        TEXT,
  payment_method        TEXT,
  capture_id            TEXT,
  captured_amount       INTEGER,
  total_captured_amount INTEGER,
  remaining_amount      INTEGER,
  capture_reference     TEXT,
  correlation_id        TEXT,
  corrects              TEXT,
  reason                TEXT,
  category              TEXT,
  fix_by                TEXT,
  notify_customer       INTEGER,
  retryable             INTEGER,
  next_attempt_at       TEXT,
  final                 INTEGER,
  http_status           INTEGER,
  error_code            TEXT,
  token_status          TEXT,
  undecided_tries       INTEGER,
  first_sent_at         TEXT,
  last_sent_at          TEXT,
  search_until          TEXT,
  conflicts_with        TEXT,
  undone                INTEGER,
  actor                 TEXT,
  note                  TEXT,
  detail                TEXT,          -- what Klarna, the worker or the validation said, for a person
  metadata              TEXT           -- JSON, the job's own
) STRICT;
CREATE INDEX records_renewal ON records (renewal_id, sequence);
CREATE INDEX records_message ON records (message_id) WHERE kind NOT IN ('charging', 'capturing');
CREATE INDEX records_key ON records (idempotency_key) WHERE kind NOT IN ('charging', 'capturing');
CREATE INDEX records_order ON records (order_id) WHERE order_id IS NOT NULL AND kind <> 'capturing';
CREATE INDEX records_capture ON records (capture_id) WHERE capture_id IS NOT NULL;
CREATE INDEX records_reference1 ON records (merchant_reference1) WHERE kind NOT IN ('charging', 'capturing');
CREATE INDEX records_reference2 ON records (merchant_reference2) WHERE merchant_reference2 IS NOT NULL AND kind NOT IN ('charging', 'capturing');
CREATE INDEX records_correlation ON records (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX records_token ON records (token_fingerprint) WHERE token_fingerprint IS NOT NULL AND kind NOT IN ('charging', 'capturing');
CREATE INDEX records_amount ON records (amount, purchase_currency, at) WHERE kind NOT IN ('charging', 'capturing');
CREATE INDEX records_at ON records (at) WHERE kind NOT IN ('charging', 'capturing');

-- The correlation IDs of what is unresolved, which has several.
CREATE TABLE correlations (
  correlation_id TEXT NOT NULL,
  sequence       INTEGER NOT NULL REFERENCES records (sequence),
  PRIMARY KEY (correlation_id, sequence)
) STRICT, WITHOUT ROWID;

-- What stands in the journal and no program of this version reads.
CREATE TABLE unreadable (
  sequence INTEGER PRIMARY KEY,
  subject  TEXT NOT NULL,
  problem  TEXT NOT NULL
) STRICT;
