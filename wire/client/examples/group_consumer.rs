//! Prints the records of some topics as a member of a group, and what happens to its partitions. Start
//! it twice and watch the members share; end one with Ctrl-C and watch the other take over.
//!
//! `cargo run -p millrace-client --example group_consumer -- --group GROUP TOPIC...`

use std::time::Duration;

use millrace_client::{Client, ClientConfig, GroupConfig, GroupEvent, OffsetReset};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut group, mut topics) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--group" => group = arguments.next(),
            _ => topics.push(argument),
        }
    }
    let group = group.ok_or("name a group: --group GROUP TOPIC...")?;
    let bootstrap = std::env::var("MILLRACE_BOOTSTRAP").unwrap_or("127.0.0.1:9092".into());

    let client = Client::connect(ClientConfig::new([bootstrap])).await?;
    let mut consumer = client.group_consumer(GroupConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..GroupConfig::new(group, topics)
    })?;
    loop {
        // What the last event brought counts as worked on when the next one is asked for. To know
        // nothing of partitions, call `poll`, which gives records and nothing else.
        let event = tokio::select! {
            event = consumer.poll_event(Duration::from_secs(60)) => event?,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(GroupEvent::Records(records)) => {
                for record in records {
                    let value = record.value.unwrap_or_default();
                    let place = format!("{}/{}", record.topic, record.partition);
                    println!(
                        "{place}@{} {}",
                        record.offset,
                        String::from_utf8_lossy(&value)
                    );
                }
            }
            Some(GroupEvent::Assigned(places)) => println!("+ {}", list(&places)),
            Some(GroupEvent::Revoked(places)) => println!("- {}", list(&places)),
            Some(GroupEvent::Lost(places)) => println!("! lost {}", list(&places)),
            None => {}
        }
    }
    consumer.close().await?;
    Ok(())
}

fn list(places: &[impl ToString]) -> String {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    places.join(" ")
}
