-- How many seconds before a lab's end its users have been warned of that, at the last. NULL: not yet.

ALTER TABLE labs ADD COLUMN warned_before BIGINT;
