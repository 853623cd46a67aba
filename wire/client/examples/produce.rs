//! Sends the lines of standard input to a topic, each as a record, and says where they went.
//!
//! `cargo run -p millrace-client --example produce -- TOPIC < file`

use millrace_client::{Client, ClientConfig, ProducerConfig, Record};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = std::env::args().nth(1).ok_or("name a topic")?;
    let bootstrap = std::env::var("MILLRACE_BOOTSTRAP").unwrap_or("127.0.0.1:9092".into());

    let client = Client::connect(ClientConfig::new([bootstrap])).await?;
    let producer = client.producer(ProducerConfig::default())?;

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut deliveries = Vec::new();
    while let Some(line) = lines.next_line().await? {
        // Waits only while the producer's buffer is full.
        deliveries.push(producer.send(Record::new(topic.as_str(), line)).await?);
    }
    producer.flush().await?;

    let mut ends = std::collections::BTreeMap::new();
    for delivery in deliveries {
        let place = delivery.await?;
        ends.insert(place.partition, place.offset);
    }
    for (partition, offset) in ends {
        println!("{topic}/{partition}: up to offset {}", offset.unwrap_or(-1));
    }
    producer.close().await?;
    Ok(())
}
