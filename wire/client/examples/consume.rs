//! Prints a topic's records from the oldest on, and goes on as new ones arrive.
//!
//! `cargo run -p millrace-client --example consume -- TOPIC`

use std::time::Duration;

use millrace_client::{Client, ClientConfig, ConsumerConfig, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = std::env::args().nth(1).ok_or("name a topic")?;
    let bootstrap = std::env::var("MILLRACE_BOOTSTRAP").unwrap_or("127.0.0.1:9092".into());

    let client = Client::connect(ClientConfig::new([bootstrap])).await?;
    let mut consumer = client.consumer(ConsumerConfig::default())?;
    consumer.assign_topic(&topic, Start::Earliest).await?;

    loop {
        // A long wait costs nothing: records are given out as soon as they arrive.
        for record in consumer.poll(Duration::from_secs(60)).await? {
            let value = record.value.unwrap_or_default();
            println!(
                "{}@{} {}",
                record.partition,
                record.offset,
                String::from_utf8_lossy(&value)
            );
        }
    }
}
