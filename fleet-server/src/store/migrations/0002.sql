ALTER TABLE versions ADD COLUMN ever_signed INTEGER NOT NULL DEFAULT 0;
UPDATE versions SET ever_signed = 1 WHERE signed = 1 OR EXISTS (
    SELECT 1 FROM events e WHERE e.kind = 'version-published' AND e.team = versions.team
        AND e.model_id = versions.model_id AND e.version = versions.version
);
