//! The tokio face against a broker in memory, over real sockets.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::Broker;
use millrace_client::{
    Acks, Client, ClientConfig, ClientError, Compression, ConsumerConfig, ErrorCode, NewTopic,
    OffsetQuery, ProducerConfig, Record, Start,
};

async fn client(broker: &Broker) -> Client {
    Client::connect(ClientConfig::new([broker.bootstrap()]))
        .await
        .unwrap()
}

fn text(value: &Option<bytes::Bytes>) -> String {
    String::from_utf8(value.as_ref().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_there_and_come_back_whole() {
    let broker = Broker::start(4).await;
    let client = client(&broker).await;
    let admin = client.admin();
    let created = admin.create_topic(NewTopic::new("t", 8)).await.unwrap();
    assert_eq!(created.partitions, 8);
    assert_eq!(admin.list_topics().await.unwrap()[0].name, "t");
    let again = admin.create_topic(NewTopic::new("t", 8)).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TopicAlreadyExists));

    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let config = ProducerConfig {
            compression,
            ..ProducerConfig::default()
        };
        let producer = client.producer(config).unwrap();
        let record = Record::new("t", "value")
            .key("key")
            .header("h", "x")
            .timestamp(123);
        let place = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(place.timestamp, 123);
        let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
        let start = Start::Offset(place.offset.unwrap());
        consumer
            .assign(&[("t", place.partition, start)])
            .await
            .unwrap();
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(text(&records[0].value), "value");
        assert_eq!(text(&records[0].key), "key");
        assert_eq!(records[0].headers, [("h".to_string(), Some("x".into()))]);
        assert_eq!(records[0].timestamp, 123);
        assert_eq!(
            consumer.position("t", place.partition),
            Some(place.offset.unwrap() + 1)
        );
    }
    let questions = [
        ("t", 99, OffsetQuery::Latest),
        ("t", 0, OffsetQuery::Earliest),
    ];
    let offsets = admin.list_offsets(&questions).await.unwrap();
    assert!(offsets[0].offset.is_err());
    assert_eq!(offsets[1].offset, Ok(Some(0)));
    assert!(admin.ping().await.unwrap().round_trip > Duration::ZERO);
    assert_eq!(client.broker().shard_count, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_share_a_producer_and_each_keeps_its_order() {
    let broker = Broker::start(3).await;
    broker.log.lock().unwrap().create("t", 6);
    let client = client(&broker).await;
    // A small buffer, so that senders meet back-pressure.
    let config = ProducerConfig {
        buffer_bytes: 20_000,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..6_u32 {
        let producer = producer.clone();
        tasks.spawn(async move {
            let mut deliveries = Vec::new();
            for i in 0..3_000 {
                let record = Record::new("t", format!("{i}")).partition(task);
                deliveries.push(producer.send(record).await.unwrap());
            }
            for (i, delivery) in deliveries.into_iter().enumerate() {
                assert_eq!(delivery.await.unwrap().offset, Some(i as i64));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    producer.close().await.unwrap();
    assert_eq!(
        producer.send(Record::new("t", "late")).await.unwrap_err(),
        ClientError::Closed
    );

    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_topic("t", Start::Earliest).await.unwrap();
    let mut seen: BTreeMap<u32, i64> = BTreeMap::new();
    while seen.values().sum::<i64>() < 18_000 {
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        assert!(!records.is_empty() && records.len() <= 1000);
        for record in records {
            let next = seen.entry(record.partition).or_default();
            assert_eq!(
                (record.offset, text(&record.value)),
                (*next, next.to_string())
            );
            *next += 1;
        }
    }
    assert_eq!(consumer.high_watermark("t", 0), Some(3_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_is_found_again() {
    let mut broker = Broker::start(2).await;
    broker.log.lock().unwrap().create("t", 2);
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_topic("t", Start::Latest).await.unwrap();
    let mut deliveries = Vec::new();
    for i in 0..40_u32 {
        if i % 10 == 5 {
            broker.stop().await;
        }
        let record = Record::new("t", i.to_string()).partition(i % 2);
        deliveries.push(producer.send(record).await.unwrap());
        if i % 10 == 7 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            broker.restart().await;
        }
    }
    let mut last: BTreeMap<u32, i64> = BTreeMap::new();
    for delivery in deliveries {
        let place = delivery.await.unwrap();
        let before = last.insert(place.partition, place.offset.unwrap());
        assert!(before.is_none_or(|before| before < place.offset.unwrap()));
    }
    // The consumer sees all of it, too, and each offset once.
    let mut next: BTreeMap<u32, i64> = BTreeMap::new();
    while next.get(&0) <= last.get(&0) || next.get(&1) <= last.get(&1) {
        for record in consumer.poll(Duration::from_secs(5)).await.unwrap() {
            let expected = next.entry(record.partition).or_default();
            assert_eq!(record.offset, *expected);
            *expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_pipelined_and_partitions_do_not_wait_for_each_other() {
    let broker = Broker::start(1).await;
    broker.log.lock().unwrap().create("t", 5);
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    producer
        .send(Record::new("t", "warm").partition(0))
        .await
        .unwrap()
        .await
        .unwrap();
    *broker.delay.lock().unwrap() = Duration::from_millis(300);
    let begun = Instant::now();
    let mut deliveries = Vec::new();
    for partition in 0..5 {
        let record = Record::new("t", "v").partition(partition);
        deliveries.push(producer.send(record).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_millis(1_000),
        "{:?}",
        begun.elapsed()
    );
    let (_, most) = *broker.most_at_once.lock().unwrap();
    assert!(most >= 3, "{most} requests were under way at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_reaches_a_waiting_consumer_at_once() {
    let broker = Broker::start(2).await;
    broker.log.lock().unwrap().create("t", 50);
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_topic("t", Start::Latest).await.unwrap();
    let mut delays = Vec::new();
    for i in 0..100 {
        let sent = Instant::now();
        let record = Record::new("t", i.to_string()).partition(i % 50);
        let delivery = producer.send(record).await.unwrap();
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        delays.push(sent.elapsed());
        assert_eq!(text(&records[0].value), i.to_string());
        delivery.await.unwrap();
    }
    delays.sort();
    assert!(
        delays[50] < Duration::from_millis(20),
        "the median took {:?}",
        delays[50]
    );
}

#[tokio::test]
async fn a_dropped_send_was_not_accepted_and_a_dropped_delivery_is_sent() {
    let broker = Broker::start(1).await;
    broker.log.lock().unwrap().create("t", 1);
    let client = client(&broker).await;
    let config = ProducerConfig {
        buffer_bytes: 100,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    producer
        .send(Record::new("t", "0"))
        .await
        .unwrap()
        .await
        .unwrap();
    *broker.delay.lock().unwrap() = Duration::from_millis(200);
    drop(
        producer
            .send(Record::new("t", "x".repeat(90)))
            .await
            .unwrap(),
    );
    // The buffer is full: this one waits, and is given up before it is accepted.
    let waiting = producer.send(Record::new("t", "never"));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waiting)
            .await
            .is_err()
    );
    producer
        .send(Record::new("t", "2"))
        .await
        .unwrap()
        .await
        .unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign(&[("t", 0, Start::Earliest)]).await.unwrap();
    let mut values = Vec::new();
    while values.len() < 3 {
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        values.extend(records.iter().map(|record| text(&record.value)));
    }
    assert_eq!(values, ["0".to_string(), "x".repeat(90), "2".into()]);
}

#[tokio::test]
async fn a_dropped_poll_loses_nothing() {
    let broker = Broker::start(1).await;
    broker.log.lock().unwrap().create("t", 1);
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let mut consumer = client
        .consumer(ConsumerConfig {
            max_poll_records: 3,
            ..ConsumerConfig::default()
        })
        .unwrap();
    consumer.assign(&[("t", 0, Start::Earliest)]).await.unwrap();
    let mut values = Vec::new();
    for i in 0..30 {
        producer
            .send(Record::new("t", i.to_string()))
            .await
            .unwrap()
            .await
            .unwrap();
        // Polls that are given up at any moment.
        let poll = consumer.poll(Duration::from_secs(5));
        if let Ok(records) = tokio::time::timeout(Duration::from_micros(i * 30), poll).await {
            values.extend(records.unwrap().iter().map(|record| text(&record.value)));
        }
    }
    while values.len() < 30 {
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        assert!((1..=3).contains(&records.len()));
        values.extend(records.iter().map(|record| text(&record.value)));
    }
    assert_eq!(values, (0..30).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn dropping_everything_still_delivers_what_was_accepted() {
    let broker = Broker::start(1).await;
    broker.log.lock().unwrap().create("t", 1);
    let client = client(&broker).await;
    let config = ProducerConfig {
        linger: Duration::from_secs(5),
        delivery_timeout: Duration::from_secs(8),
        acks: Acks::Leader,
        idempotent: false,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let delivery = producer.send(Record::new("t", "last")).await.unwrap();
    drop((producer, client));
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_no_broker_is_said_plainly() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = Client::connect(ClientConfig::new([nobody.to_string()]))
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&nobody.to_string()) && said.contains("refused"),
        "{said}"
    );
    assert!(said.contains("millrace serve"), "{said}");

    let error = Client::connect(ClientConfig::new(["no port"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("host:port"), "{error}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let error = Client::connect(ClientConfig::new([address.to_string()]))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("does not speak"), "{error}");
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_named() {
    let broker = Broker::start(1).await;
    let client = client(&broker).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let error = producer
        .send(Record::new("nowhere", "v"))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ClientError::UnknownTopic {
            topic: "nowhere".into()
        }
    );
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    let error = consumer
        .assign(&[("nowhere", 0, Start::Latest)])
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ClientError::UnknownTopic {
            topic: "nowhere".into()
        }
    );
    let error = consumer
        .seek("nowhere", 3, Start::Latest)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotAssigned { .. }), "{error}");
}
