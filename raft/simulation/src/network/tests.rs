use super::*;

const COUNT: u64 = 50_000;
const MILLISECOND: Duration = Duration::from_millis(1);

fn lossy() -> LinkModel {
    LinkModel {
        delay_min: MILLISECOND,
        delay_mean: 2 * MILLISECOND,
        loss: 0.2,
        duplication: 0.25,
        reordering: 0.1,
        reordering_delay: 100 * MILLISECOND,
    }
}

fn network(model: LinkModel) -> Network {
    Network::new(Seed(42), 3, model)
}

#[test]
fn a_perfect_network_delivers_once_after_its_delay() {
    let mut network = network(LinkModel::perfect(MILLISECOND));
    for second in 0..1_000 {
        let now = Time(second * 1_000_000_000);
        assert_eq!(network.route(now, 0, 1, 10).as_slice(), [now + MILLISECOND]);
        assert_eq!(network.route_stream(now, 0, 1, 10), Some(now + MILLISECOND));
    }
    let expected = Traffic {
        messages: 2_000,
        bytes: 20_000,
        ..Traffic::default()
    };
    assert_eq!(network.traffic(0), expected);
    assert_eq!(network.traffic(1), Traffic::default());
    assert_eq!(network.total_traffic(), expected);
}

#[test]
fn loss_and_duplication_are_as_asked() {
    let mut network = network(lossy());
    let mut counts = [0u64; 3];
    for _ in 0..COUNT {
        counts[network.route(Time::ZERO, 0, 1, 1).len()] += 1;
    }
    let share = |count: u64| count as f64 / COUNT as f64;
    assert!((share(counts[0]) - 0.2).abs() < 0.01, "{counts:?}");
    assert!((share(counts[2]) - 0.8 * 0.25).abs() < 0.01, "{counts:?}");
    let traffic = network.traffic(0);
    assert_eq!((traffic.lost, traffic.duplicated), (counts[0], counts[2]));
}

#[test]
fn delays_and_reordering_are_as_asked() {
    let mut network = network(LinkModel {
        loss: 0.0,
        duplication: 0.0,
        ..lossy()
    });
    let delays: Vec<Duration> = (0..COUNT)
        .map(|_| network.route(Time::ZERO, 0, 1, 1)[0].since(Time::ZERO))
        .collect();
    assert!(delays.iter().all(|&delay| delay >= MILLISECOND));
    let mean = delays.iter().sum::<Duration>().as_secs_f64() / COUNT as f64;
    // 1 ms, 2 ms, and a tenth of half of 100 ms.
    assert!((mean - 0.008).abs() < 0.000_3, "{mean}");
    // Without the extra delay hardly any would take longer than 20 ms.
    let late = delays
        .iter()
        .filter(|&&delay| delay > 20 * MILLISECOND)
        .count() as f64;
    assert!((late / COUNT as f64 - 0.1 * 0.82).abs() < 0.01, "{late}");
}

#[test]
fn shares_beyond_the_ends_are_always_or_never() {
    let shares = |loss, duplication| LinkModel {
        loss,
        duplication,
        ..LinkModel::perfect(MILLISECOND)
    };
    let mut network = network(shares(7.0, 0.0));
    assert!((0..1_000).all(|_| network.route(Time::ZERO, 0, 1, 1).is_empty()));
    network.set_model(shares(f64::NAN, 1.0));
    assert!((0..1_000).all(|_| network.route(Time::ZERO, 0, 1, 1).len() == 2));
    network.set_model(shares(-1.0, -1.0));
    assert!((0..1_000).all(|_| network.route(Time::ZERO, 0, 1, 1).len() == 1));
}

#[test]
fn the_fate_of_a_message_is_its_own() {
    let mut plain = network(lossy());
    let mut disturbed = network(lossy());
    let expected: Vec<Arrivals> = (0..300).map(|_| plain.route(Time::ZERO, 0, 1, 1)).collect();
    for (number, arrivals) in expected.iter().enumerate() {
        // Traffic elsewhere, a cut and another model for one message move no other.
        disturbed.route(Time::ZERO, 1, 0, 1);
        disturbed.route_stream(Time::ZERO, 0, 1, 1);
        if number % 3 == 1 {
            disturbed.cut(0, 1);
            assert!(disturbed.route(Time::ZERO, 0, 1, 1).is_empty());
            disturbed.heal(0, 1);
        } else if number % 3 == 2 {
            disturbed.set_model(LinkModel::perfect(MILLISECOND));
            disturbed.route(Time::ZERO, 0, 1, 1);
            disturbed.set_model(lossy());
        } else {
            assert_eq!(&disturbed.route(Time::ZERO, 0, 1, 1), arrivals, "{number}");
        }
    }
}

#[test]
fn links_draw_apart() {
    let mut network = network(lossy());
    let fates: Vec<Vec<Arrivals>> = [(0, 1), (1, 0), (0, 2), (2, 1)]
        .iter()
        .map(|&(from, to)| {
            (0..20)
                .map(|_| network.route(Time::ZERO, from, to, 1))
                .collect()
        })
        .collect();
    for (index, fate) in fates.iter().enumerate() {
        assert!(!fates[..index].contains(fate));
    }
}

#[test]
fn a_stream_never_overtakes() {
    let mut network = network(lossy());
    let mut last = Time::ZERO;
    let mut waited = 0;
    for number in 0..COUNT {
        let now = Time(number * 100_000);
        if number == COUNT / 2 {
            network.clog(0, 1, now + Duration::from_secs(2));
        }
        let arrival = network.route_stream(now, 0, 1, 1).expect("not cut");
        assert!(arrival >= last.max(now + MILLISECOND));
        waited += u64::from(arrival == last);
        last = arrival;
    }
    assert!(waited > COUNT / 2, "pieces sent apart wait for one another");
}

#[test]
fn loss_slows_a_stream_and_does_not_break_it() {
    let mut network = network(LinkModel {
        loss: 1.0,
        ..LinkModel::perfect(MILLISECOND)
    });
    // 1 ms, and six times again after 2, 4, 8, 16, 32 and 64 ms.
    let arrival = network.route_stream(Time::ZERO, 0, 1, 1);
    assert_eq!(arrival, Some(Time::ZERO + 127 * MILLISECOND));
}

#[test]
fn cuts_are_one_way() {
    let mut network = network(LinkModel::perfect(MILLISECOND));
    network.cut(0, 1);
    assert!(network.is_cut(0, 1) && !network.is_cut(1, 0));
    assert!(network.route(Time::ZERO, 0, 1, 1).is_empty());
    assert_eq!(network.route_stream(Time::ZERO, 0, 1, 1), None);
    assert_eq!(network.route(Time::ZERO, 1, 0, 1).len(), 1);
    assert_eq!(network.traffic(0).lost, 2);
    network.heal(0, 1);
    assert_eq!(network.route(Time::ZERO, 0, 1, 1).len(), 1);
}

#[test]
fn isolation_and_partitions_cut_what_they_name() {
    let mut network = Network::new(Seed(1), 5, LinkModel::perfect(MILLISECOND));
    network.isolate(2);
    for from in 0..5 {
        for to in 0..5 {
            let expected = from != to && (from == 2 || to == 2);
            assert_eq!(network.is_cut(from, to), expected, "{from} {to}");
        }
    }
    network.heal_all();
    // 2 and 4 are in no group: together they form one.
    network.partition(&[vec![0, 1], vec![3]]);
    let group = [0, 0, 9, 1, 9];
    for from in 0..5 {
        for to in 0..5 {
            let expected = group[from] != group[to];
            assert_eq!(network.is_cut(from, to), expected, "{from} {to}");
        }
    }
}

#[test]
fn a_clog_holds_back_and_then_lets_go() {
    let mut network = network(LinkModel::perfect(MILLISECOND));
    let until = Time::ZERO + Duration::from_secs(1);
    network.clog(0, 1, until);
    network.clog(0, 1, Time(5));
    assert_eq!(network.route(Time(3), 0, 1, 1)[0], until + MILLISECOND);
    assert_eq!(network.route(Time(3), 1, 0, 1)[0], Time(3) + MILLISECOND);
    let later = until + MILLISECOND;
    assert_eq!(network.route(later, 0, 1, 1)[0], later + MILLISECOND);
}

#[test]
fn faults_that_overlap_do_not_end_each_other() {
    let mut network = network(LinkModel::perfect(MILLISECOND));
    let isolation = Fault::Isolate { node: 0 };
    let cut = Fault::Cut { from: 0, to: 1 };
    let worse = Fault::Network {
        model: LinkModel::perfect(20 * MILLISECOND),
    };
    for fault in [&isolation, &cut, &cut, &worse] {
        assert!(network.begin(fault, Time::NEVER));
    }
    assert!(!network.begin(&Fault::Crash { node: 0 }, Time::NEVER));
    network.end(&isolation);
    assert!(network.is_cut(0, 1) && !network.is_cut(1, 0));
    network.end(&cut);
    assert!(network.is_cut(0, 1));
    network.end(&cut);
    assert!(!network.is_cut(0, 1));
    // A model set while a worse one lasts comes into force after it.
    network.set_model(LinkModel::perfect(2 * MILLISECOND));
    let delay = |network: &mut Network| network.route(Time::ZERO, 0, 1, 1)[0];
    assert_eq!(delay(&mut network), Time::ZERO + 20 * MILLISECOND);
    network.end(&worse);
    assert_eq!(delay(&mut network), Time::ZERO + 2 * MILLISECOND);
    network.begin(&isolation, Time::NEVER);
    network.heal_all();
    assert!(!network.is_cut(0, 1));
    network.end(&isolation);
}

#[test]
#[should_panic(expected = "link 0 to 3 in a world of 3 nodes")]
fn there_is_no_node_beyond_the_last() {
    network(lossy()).route(Time::ZERO, 0, 3, 1);
}
