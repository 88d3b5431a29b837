-- The runtime that an instance was deployed on: another one can't say what became of it, nor take it down.
-- NULL: it was deployed before there was a choice, on the embedded runtime.

ALTER TABLE labs ADD COLUMN instance_runtime TEXT;
