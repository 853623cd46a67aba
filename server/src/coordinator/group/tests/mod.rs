//! What members see of a group, step by step, and at random.

mod commits;
mod driver;
mod random;
mod rebalances;
mod sessions;

use driver::*;
use millrace_wire::error::ErrorCode;
