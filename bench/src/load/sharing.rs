//! Which connection has which partitions.

use crate::protocol::Place;

pub(super) fn shard_of(places: &[Place]) -> u16 {
    places.first().map_or(0, |place| place.shard)
}

/// Gives every lane all partitions of one shard; lanes are shared out evenly over the shards.
pub(super) fn share_out<T: Clone>(
    items: Vec<T>,
    lanes: usize,
    shard: impl Fn(&T) -> u16,
) -> Vec<Vec<T>> {
    let mut shards: Vec<u16> = items.iter().map(&shard).collect();
    shards.sort_unstable();
    shards.dedup();
    (0..lanes)
        .map(|lane| {
            let own = shards[lane % shards.len()];
            let mine = items.iter().filter(|item| shard(item) == own);
            mine.cloned().collect()
        })
        .collect()
}

/// Gives every partition to one lane; more lanes than partitions share them.
pub(super) fn split_up(starts: Vec<(Place, i64)>, lanes: usize) -> Vec<Vec<(Place, i64)>> {
    let by_shard = share_out(starts, lanes, |(place, _)| place.shard);
    let alike = |lane: usize, place: &Place| {
        let same = |other: &usize| shard_of_start(&by_shard[*other]) == place.shard;
        let peers: Vec<usize> = (0..lanes).filter(same).collect();
        (peers.iter().position(|peer| *peer == lane), peers.len())
    };
    (0..lanes)
        .map(|lane| {
            let all = &by_shard[lane];
            let Some((first, _)) = all.first() else {
                return Vec::new();
            };
            let (Some(rank), peers) = alike(lane, first) else {
                return Vec::new();
            };
            if peers >= all.len() {
                return vec![all[rank % all.len()]];
            }
            all.iter().skip(rank).step_by(peers).copied().collect()
        })
        .collect()
}

fn shard_of_start(starts: &[(Place, i64)]) -> u16 {
    starts.first().map_or(0, |(place, _)| place.shard)
}
