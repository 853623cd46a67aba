//! What a controller does after a start, and the look at every record that is there.

use std::rc::Rc;

use millrace_wire::ids::{Offset, PartitionId};

use super::client::Broker;
use super::model::{Life, Violation, ensure};
use crate::env::simulated::SimulatedEnv;
use crate::error::StorageError;
use crate::log::{Partition, PartitionStatus};

/// Attaches what should be there, removes what should not,
/// and looks at every record.
pub async fn attach_all(broker: &Rc<Broker>) -> Result<(), Violation> {
    let faults = broker.model.borrow().faults;
    let hosted: Vec<PartitionId> = broker
        .shards
        .iter()
        .flat_map(|shard| shard.hosted())
        .collect();
    for id in &hosted {
        let (known, flipped) = {
            let model = broker.model.borrow();
            (model.partitions.contains_key(id), model.journal_flipped)
        };
        ensure!(
            known || flipped,
            "partition {id} is back, though its removal was answered"
        );
        if !known {
            // What said that it was removed was lost, and that was told.
            let remove = broker.shard(*id).remove_partition(*id);
            let removed = broker.patiently("a removal", remove).await?;
            ensure!(
                removed.is_ok() || faults,
                "{id} could not be removed: {removed:?}"
            );
        }
    }
    let known: Vec<_> = {
        let model = broker.model.borrow();
        model
            .partitions
            .iter()
            .map(|(id, known)| (*id, known.name.clone(), known.settings, known.life))
            .collect()
    };
    let mut all = true;
    for (id, name, settings, life) in known {
        let is_hosted = hosted.contains(&id);
        if life != Life::Created && !is_hosted {
            broker.model.borrow_mut().partitions.remove(&id);
            continue;
        }
        let create = broker.shard(id).create_partition(id, &name, settings);
        let partition = match broker.patiently("an attachment", create).await? {
            Ok(partition) => partition,
            Err(_) if faults => {
                all = false;
                continue;
            }
            Err(error) => return Err(format!("{id} could not be attached: {error}")),
        };
        let flipped = broker.model.borrow().partitions[&id].may_be_damaged;
        let damaged = matches!(partition.status(), PartitionStatus::Damaged { .. });
        ensure!(
            is_hosted || (flipped && damaged),
            "partition {id} was made, and is not there any more"
        );
        check_all(broker, id, &partition)
            .await
            .map_err(|what| format!("{id}: {what}"))?;
        if life == Life::Removing {
            let removed = broker
                .patiently("a removal", broker.shard(id).remove_partition(id))
                .await?;
            ensure!(
                removed.is_ok() || faults,
                "{id} could not be removed: {removed:?}"
            );
            if removed.is_ok() {
                broker.model.borrow_mut().partitions.remove(&id);
            }
        } else if let Some(known) = broker.model.borrow_mut().partitions.get_mut(&id) {
            known.life = Life::Created;
        }
    }
    for shard in broker.shards.iter().filter(|_| all) {
        let known = broker.patiently("a note", shard.all_asked_for()).await?;
        ensure!(known.is_ok() || faults, "{known:?}");
    }
    Ok(())
}

/// Reads a whole partition and settles what it holds.
async fn check_all(
    broker: &Rc<Broker>,
    id: PartitionId,
    partition: &Rc<Partition<SimulatedEnv>>,
) -> Result<(), Violation> {
    let appended = partition.watermarks().appended;
    {
        let mut model = broker.model.borrow_mut();
        let known = model.partitions.get_mut(&id).expect("it is known");
        // One that was cut off may have been made.
        if known.repair.is_some_and(|(_, end)| appended >= end) {
            known.repaired(partition.term());
        }
    }
    if let PartitionStatus::Damaged { from } = partition.status() {
        let faults = broker.model.borrow().faults;
        let end = appended.max(partition.claimed.get());
        {
            let mut model = broker.model.borrow_mut();
            let known = model.partitions.get_mut(&id).expect("it is known");
            // A journal that could be read at neither try is told as damaged, too, now and later.
            known.may_be_damaged |= faults;
            ensure!(
                known.may_be_damaged,
                "damaged from {from} on, though nothing was flipped"
            );
            ensure!(
                end >= known.safe_end(),
                "it would go on at {end}, but offsets below {} were given out",
                known.safe_end()
            );
            known.repair = Some((appended, end));
        }
        let refused = partition
            .read(partition.watermarks().log_start, 1, true)
            .await;
        ensure!(refused.is_err(), "a damaged partition was read from");
        let repair = partition.accept_data_loss();
        match broker.patiently("a repair", repair).await? {
            Ok(goes_on) => ensure!(goes_on == end, "it goes on at {goes_on}, not at {end}"),
            Err(_) if faults => return Ok(()),
            Err(error) => return Err(format!("the loss could not be accepted: {error}")),
        }
        let mut model = broker.model.borrow_mut();
        model.count("damaged partitions");
        let known = model.partitions.get_mut(&id).expect("it is known");
        known.repaired(partition.term());
    }
    let marks = partition.watermarks();
    ensure!(
        marks.visible == marks.appended,
        "after a start everything is visible: {marks:?}"
    );
    {
        let mut model = broker.model.borrow_mut();
        // A log start is in two groups: one flip does not lose it.
        let forgiving = model.journal_flips > 1;
        let known = model.partitions.get_mut(&id).expect("it is known");
        if std::mem::take(&mut known.may_be_damaged) && forgiving {
            known.log_start_answered = known.log_start_answered.min(marks.log_start);
        }
        known.settle(marks.log_start, marks.visible)?;
        known.check_marks(marks)?;
    }
    read_all(broker, id, partition, marks.log_start, marks.visible).await
}

async fn read_all(
    broker: &Rc<Broker>,
    id: PartitionId,
    partition: &Rc<Partition<SimulatedEnv>>,
    log_start: Offset,
    visible: Offset,
) -> Result<(), Violation> {
    let mut from = log_start;
    let mut after_damage = false;
    while from < visible {
        let read = broker
            .patiently("a read after the start", partition.read(from, 30_000, true))
            .await?;
        let mut model = broker.model.borrow_mut();
        let faults = model.faults;
        let start_may_be_lost = model.journal_flips > 1;
        model.count("reads after a start");
        let Some(known) = model.partitions.get_mut(&id) else {
            return Ok(());
        };
        match read {
            Ok(read) => {
                ensure!(
                    !read.batches.is_empty(),
                    "a read from {from} gave nothing, visible is {visible}"
                );
                from =
                    known.check_read(from, &read.batches, read.watermarks.visible, after_damage)?;
                after_damage = false;
            }
            Err(StorageError::Corrupt { next_readable, .. })
                if known.segments_flipped || start_may_be_lost =>
            {
                model.count("corruption told");
                let Some(next) = next_readable else {
                    return Ok(());
                };
                ensure!(
                    next > from,
                    "reading may go on at {next}, which is not beyond {from}"
                );
                (from, after_damage) = (next, true);
            }
            Err(StorageError::OffsetOutOfRange { log_start, .. }) if log_start > from => {
                from = log_start
            }
            Err(_) if faults => return Ok(()),
            Err(error) => return Err(format!("a read from {from} failed: {error}")),
        }
    }
    Ok(())
}
