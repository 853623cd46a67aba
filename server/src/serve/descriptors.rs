//! How the descriptors that the process may have are shared out: storage gets what it needs first,
//! so that no crowd of connections can keep it from opening a segment; connections get the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process opens besides its shards: standard streams, the lock, signals, logs.
const OF_PROCESS: u64 = 32;
/// What a shard opens besides segments and connections: its rings, its journal, its listener, and
/// directories for as long as they are synced.
const OF_SHARD: u64 = 32;
/// A connection has two, and a third once its client has been too slow to read.
const OF_CONNECTION: u64 = 3;
/// Fewer segment files than this would be opened and closed all the time.
const FILES_MIN: u32 = 16;
/// With fewer connections than this on a shard, a broker is of no use.
const CONNECTIONS_MIN: u32 = 8;

/// What one shard may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Segment files.
    pub(super) files: u32,
    /// Connections.
    pub(super) connections: u32,
}

/// Too few descriptors to run at all.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and {shards} shards need at least {needed}; raise it (ulimit -n), or run fewer shards with --shards"
)]
pub struct TooFewDescriptors {
    limit: u64,
    needed: u64,
    shards: u16,
}

/// Takes as many descriptors as the process may have anyway. How many that is; nothing if there is
/// no limit.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current
}

/// What each shard gets of what it wants.
pub(super) fn share(
    limit: Option<u64>,
    shards: u16,
    wanted: Share,
) -> Result<Share, TooFewDescriptors> {
    let Some(limit) = limit else {
        return Ok(wanted);
    };
    let least = Share {
        files: wanted.files.min(FILES_MIN),
        connections: wanted.connections.min(CONNECTIONS_MIN),
    };
    let needed = OF_PROCESS + u64::from(shards) * least.descriptors();
    if limit < needed {
        return Err(TooFewDescriptors {
            limit,
            needed,
            shards,
        });
    }
    let each = (limit - OF_PROCESS) / u64::from(shards) - OF_SHARD;
    // Storage is content with a quarter where there is little.
    let files = wanted.files.min(least.files.max(narrow(each / 4)));
    let connections = narrow((each - u64::from(files)) / OF_CONNECTION);
    Ok(Share {
        files,
        connections: wanted.connections.min(connections),
    })
}

impl Share {
    /// Says that it is less than was configured.
    pub(super) fn tell(self) {
        let Share { files, connections } = self;
        tracing::info!(
            connections,
            segment_files = files,
            "the limit of open files (ulimit -n) leaves each shard fewer connections than network.max_connections, or fewer segment files than storage.open_files_max"
        );
    }

    fn descriptors(self) -> u64 {
        OF_SHARD + u64::from(self.files) + OF_CONNECTION * u64::from(self.connections)
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Share = Share {
        files: 256,
        connections: 10_000,
    };

    #[test]
    fn what_is_given_is_never_more_than_there_is() {
        for shards in [1, 2, 3, 64] {
            for limit in (0..3_000).chain([65_536, 1 << 20]) {
                match share(Some(limit), shards, WANTED) {
                    Ok(given) => {
                        let all = OF_PROCESS + u64::from(shards) * given.descriptors();
                        assert!(all <= limit, "{given:?} of {limit} on {shards}");
                        assert!(given.files >= FILES_MIN, "{given:?} of {limit}");
                        assert!(given.connections >= CONNECTIONS_MIN, "{given:?} of {limit}");
                    }
                    Err(too_few) => assert!(limit < too_few.needed),
                }
            }
            assert_eq!(share(Some(1 << 24), shards, WANTED).ok(), Some(WANTED));
            assert_eq!(share(None, shards, WANTED).ok(), Some(WANTED));
        }
    }

    #[test]
    fn too_few_are_refused_with_how_many_it_takes() {
        let refused = share(Some(64), 2, WANTED).expect_err("too few").to_string();
        assert!(
            refused.contains("is 64, and 2 shards need at least 176"),
            "{refused}"
        );
        assert!(share(Some(176), 2, WANTED).is_ok());
    }
}
