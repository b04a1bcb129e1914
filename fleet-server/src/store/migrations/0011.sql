-- The newest starts of the device's agent, as JSON: `devices::starts`.
ALTER TABLE devices ADD COLUMN starts TEXT;
