use super::*;

fn rules() -> Rules {
    Rules {
        defaults: TopicConfig::default(),
        default_partitions: 3,
        max_partitions: 10,
    }
}

fn create(name: &str) -> Command {
    Command::CreateTopic {
        name: name.into(),
        partitions: None,
        configs: vec![("retention.ms".into(), " 5 ".into())],
        validate_only: false,
    }
}

fn run(state: &mut State, command: &Command, id: u128) -> Result<Topic, ErrorCode> {
    let decision = state
        .decide(command, &rules(), TopicId(id))
        .map_err(|e| e.code)?;
    if let Some(change) = &decision.change {
        state.apply(change);
    }
    match decision.outcome {
        Outcome::Topic(topic) => Ok(topic),
        Outcome::ProducerIds(range) => panic!("{range:?} is no topic"),
    }
}

fn allocate(state: &mut State) -> Result<ProducerIdRange, ErrorCode> {
    let decided = state.decide(&Command::AllocateProducerIds, &rules(), TopicId(0));
    let decision = decided.map_err(|error| error.code)?;
    state.apply(&decision.change.expect("it is written down"));
    match decision.outcome {
        Outcome::ProducerIds(range) => Ok(range),
        Outcome::Topic(topic) => panic!("{topic:?} is no range"),
    }
}

#[test]
fn producer_ids_are_handed_out_once_and_run_out_in_words() {
    let mut state = State::default();
    let mut end = ProducerId(0);
    for revision in 1..5 {
        let range = allocate(&mut state).expect("there are enough");
        assert_eq!(range.first, end);
        assert_eq!(range.end.0 - range.first.0, PRODUCER_IDS_AT_A_TIME);
        assert_eq!(state.revision(), revision);
        end = range.end;
    }
    // A change that comes out of order takes nothing back.
    state.apply(&Change::ProducerIdsAllocated {
        next: ProducerId(1),
    });
    assert_eq!(state.next_producer_id(), end);
    let last = ProducerId(i64::MAX - 1);
    state.apply(&Change::ProducerIdsAllocated { next: last });
    assert_eq!(allocate(&mut state), Err(ErrorCode::Unknown));
    assert_eq!(state.next_producer_id(), last);
}

#[test]
fn a_topic_lives_and_its_name_lives_on() {
    let mut state = State::default();
    let topic = run(&mut state, &create("a"), 1).expect("new");
    assert_eq!(
        (topic.partitions, topic.configs["retention.ms"].as_str()),
        (3, "5")
    );
    assert_eq!(
        run(&mut state, &create("a"), 2),
        Err(ErrorCode::TopicAlreadyExists)
    );
    let of = |id| Command::DeleteTopic {
        name: "a".into(),
        id,
    };
    let another = of(Some(TopicId(9)));
    assert_eq!(run(&mut state, &another, 0), Err(ErrorCode::UnknownTopicId));
    let delete = of(None);
    run(&mut state, &delete, 0).expect("is there");
    assert_eq!(
        run(&mut state, &delete, 0),
        Err(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(
        run(&mut state, &create("a"), 3).expect("free again").id,
        TopicId(3)
    );
    assert_eq!(state.revision(), 3);
}

#[test]
fn validating_changes_nothing() {
    let mut state = State::default();
    let command = Command::CreateTopic {
        name: "a".into(),
        partitions: Some(1),
        configs: vec![],
        validate_only: true,
    };
    run(&mut state, &command, 1).expect("allowed");
    assert_eq!(state, State::default());
}

#[test]
fn settings_are_set_and_unset() {
    let mut state = State::default();
    run(&mut state, &create("a"), 1).expect("new");
    let alter = |set: &[(&str, &str)], unset: &[&str]| Command::AlterConfig {
        name: "a".into(),
        set: set
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect(),
        unset: unset.iter().map(|n| (*n).into()).collect(),
        validate_only: false,
    };
    let topic = run(
        &mut state,
        &alter(&[("segment.ms", "9")], &["retention.ms"]),
        0,
    )
    .expect("ok");
    assert_eq!(
        topic.configs,
        BTreeMap::from([("segment.ms".into(), "9".into())])
    );
    assert_eq!(topic.effective_config(&rules().defaults).segment_ms, 9);
    for wrong in [
        alter(&[("segment.ms", "0")], &[]),
        alter(&[("nothing", "0")], &[]),
        alter(&[], &["nothing"]),
        alter(&[("segment.ms", "1")], &["segment.ms"]),
    ] {
        assert_eq!(run(&mut state, &wrong, 0), Err(ErrorCode::InvalidConfig));
    }
    let revision = state.revision();
    run(&mut state, &alter(&[("segment.ms", "9")], &[]), 0).expect("ok");
    assert_eq!(
        state.revision(),
        revision,
        "nothing changed, nothing is written"
    );
}

#[test]
fn partitions_grow_within_bounds() {
    let mut state = State::default();
    run(&mut state, &create("a"), 1).expect("new");
    let grow = |total| Command::CreatePartitions {
        name: "a".into(),
        total,
        validate_only: false,
    };
    for total in [0, 2, 3, 11, u32::MAX] {
        assert_eq!(
            run(&mut state, &grow(total), 0),
            Err(ErrorCode::InvalidPartitions)
        );
    }
    assert_eq!(run(&mut state, &grow(10), 0).expect("room").partitions, 10);
    assert_eq!(
        run(&mut state, &create("b"), 2),
        Err(ErrorCode::InvalidPartitions)
    );
}

#[test]
fn names_that_could_do_harm_are_refused() {
    let mut state = State::default();
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "a\0b",
        "@journal",
        "__controller",
        "é",
        &"x".repeat(250),
    ] {
        assert_eq!(
            run(&mut state, &create(name), 1),
            Err(ErrorCode::InvalidTopic),
            "{name:?}"
        );
    }
    assert_eq!(shown("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
}

#[test]
fn an_old_change_of_a_topic_that_was_made_anew_does_nothing() {
    let mut state = State::default();
    run(&mut state, &create("a"), 2).expect("new");
    let before = state.topic(&"a".parse().expect("a name")).cloned();
    let name: TopicName = "a".parse().expect("a name");
    state.apply(&Change::TopicDeleted {
        id: TopicId(1),
        name: name.clone(),
    });
    state.apply(&Change::PartitionsAdded {
        id: TopicId(1),
        name: name.clone(),
        total: 9,
    });
    assert_eq!(state.topic(&name).cloned(), before);
}
