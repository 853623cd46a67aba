//! Makes a topic, looks at it, and removes it again.
//!
//! `cargo run -p millrace-client --example admin`

use millrace_client::{Client, ClientConfig, ErrorCode, NewTopic};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::var("MILLRACE_BOOTSTRAP").unwrap_or("127.0.0.1:9092".into());
    let client = Client::connect(ClientConfig::new([bootstrap])).await?;
    let admin = client.admin();
    println!(
        "broker {}: {:?}",
        client.broker().version,
        admin.ping().await?
    );

    let topic = NewTopic::new("an-example", 3).config("retention.ms", "3600000");
    match admin.create_topic(topic).await {
        Ok(created) => println!(
            "made {} with {} partitions",
            created.name, created.partitions
        ),
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => println!("{error}"),
        Err(error) => return Err(error.into()),
    }
    for topic in admin.list_topics().await? {
        println!("{}: {} partitions", topic.name, topic.partitions);
    }
    let description = admin.describe_topic("an-example").await?;
    for entry in description.configs.iter().filter(|entry| entry.is_set) {
        println!("{} = {}", entry.name, entry.value);
    }
    admin.delete_topic("an-example").await?;
    Ok(())
}
