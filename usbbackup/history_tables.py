"""The tables of the run history, as the steps that lead from each version of them to the next."""

MIGRATIONS = (
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            run TEXT NOT NULL UNIQUE,
            job TEXT NOT NULL,
            drive TEXT NOT NULL,
            attachment TEXT NOT NULL,
            outcome TEXT CHECK (
                outcome IN ('success', 'warning', 'failed', 'interrupted', 'cancelled', 'skipped')
            ),
            phase TEXT NOT NULL CHECK (
                phase IN (
                    'queued', 'probe', 'stage', 'transfer', 'sync', 'publish', 'prune', 'verify', 'record'
                )
            ),
            started REAL NOT NULL,
            finished REAL,
            bytes INTEGER,
            files INTEGER,
            snapshot TEXT,
            message TEXT,
            hint TEXT,
            notes TEXT NOT NULL DEFAULT '',
            log BLOB NOT NULL,
            boot_id TEXT,
            engine_pid INTEGER,
            engine_ticks INTEGER,
            CHECK ((outcome IS NULL) = (finished IS NULL))
        ) STRICT""",
        "CREATE INDEX runs_of_job ON runs (job, drive)",
        "CREATE INDEX runs_by_job ON runs (job)",
        "CREATE INDEX runs_by_drive ON runs (drive)",
        "CREATE INDEX runs_by_attachment ON runs (attachment, drive, job)",
        "CREATE INDEX runs_good ON runs (job, drive) WHERE outcome IN ('success', 'warning')",
        "CREATE INDEX runs_good_anywhere ON runs (job) WHERE outcome IN ('success', 'warning')",
        "CREATE INDEX runs_unfinished ON runs (outcome) WHERE outcome IS NULL",
        """CREATE TABLE attachments (
            id INTEGER PRIMARY KEY,
            attachment TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL,
            drive TEXT NOT NULL,
            began REAL NOT NULL,
            ended REAL
        ) STRICT""",
        "CREATE INDEX attachments_present ON attachments (drive) WHERE ended IS NULL",
        """CREATE TABLE decisions (
            id INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            last_seen REAL NOT NULL,
            times INTEGER NOT NULL,
            drive TEXT,
            job TEXT,
            attachment TEXT,
            verdict TEXT NOT NULL,
            reason TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX decisions_of_job ON decisions (job, drive)",
        "CREATE INDEX decisions_by_job ON decisions (job)",
        "CREATE INDEX decisions_by_drive ON decisions (drive)",
        """CREATE TABLE sources (
            job TEXT NOT NULL,
            source BLOB NOT NULL,
            files INTEGER NOT NULL,
            unreadable INTEGER NOT NULL,
            filesystem BLOB NOT NULL,
            PRIMARY KEY (job, source)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE proven (
            job TEXT NOT NULL,
            drive TEXT NOT NULL,
            time REAL NOT NULL,
            snapshot TEXT NOT NULL,
            PRIMARY KEY (job, drive)
        ) STRICT, WITHOUT ROWID""",
    ),
)
