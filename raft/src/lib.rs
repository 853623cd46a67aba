//! Consensus as a state machine: a multi-group Raft core over spans of batches, without I/O, clock,
//! threads or async, driven by `shard/` and by a simulator. It is empty today: a Millrace node
//! stands alone until the replication issue fills this crate.
