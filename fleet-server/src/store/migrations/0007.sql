-- Every version that was ever demanded of a device: only these count in its reports. A device that was taken back from one
-- still has windows of it, for months where it is offline.
CREATE TABLE demanded (
    device TEXT NOT NULL,
    team TEXT NOT NULL,
    model_id TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (device, team, model_id, version)
) STRICT, WITHOUT ROWID;

-- A trigger, so that a server of the step before notes it too.
CREATE TRIGGER demanded_is_noted AFTER INSERT ON desired_models BEGIN
    INSERT INTO demanded (device, team, model_id, version) VALUES (new.device, new.team, new.model_id, new.version)
        ON CONFLICT DO NOTHING;
END;

-- What is known of before: what stands, every assignment by hand, what rollouts demanded and what they found.
-- A `model` reads `team/model@version`, that of a demand `team/model`.
INSERT INTO demanded (device, team, model_id, version)
    SELECT device, team, model_id, version FROM desired_models
    UNION
    SELECT d.key, substr(model, 1, instr(model, '/') - 1),
        substr(model, instr(model, '/') + 1, instr(model, '@') - instr(model, '/') - 1),
        substr(model, instr(model, '@') + 1)
    FROM assignments, json_each(assignments.devices) d
    UNION
    SELECT device, team, model_id, version FROM rollout_devices JOIN rollouts ON rollouts.id = rollout
    UNION
    SELECT device, team, model_id, previous ->> '$.version'
    FROM rollout_devices JOIN rollouts ON rollouts.id = rollout WHERE previous IS NOT NULL;
