//! What is in force on this node, for whoever asks over the network.

use super::Node;
use crate::kafka::BrokerSetting;

impl Node {
    /// Every setting with the value that it has come to.
    pub(super) fn broker_settings(&self) -> Vec<BrokerSetting> {
        let shown = self.settings.iter().map(|setting| {
            let key = setting.key;
            let in_force = self.in_force(&key.name);
            BrokerSetting {
                name: key.name.clone(),
                value: in_force.unwrap_or_else(|| setting.plain()),
                default: setting.is_set().then(|| key.plain_default()),
                kind: key.kind,
                doc: key.doc,
            }
        });
        shown.collect()
    }

    /// What a setting has come to, where that is more than what is written.
    fn in_force(&self, key: &str) -> Option<String> {
        Some(match key {
            "bind" => self.addresses.native.to_string(),
            "data_dir" => self.data_directory.display().to_string(),
            "shards" => self.shards.to_string(),
            "journal.file_bytes" => self.sizes.journal_file_bytes.to_string(),
            "storage.disk_reserve_bytes" => self.sizes.disk_reserve_bytes.to_string(),
            "storage.open_files_max" => self.share.files.to_string(),
            "storage.unwritten_bytes" => self.sizes.unwritten_bytes.to_string(),
            "network.max_connections" => self.share.connections.to_string(),
            "kafka.bind" => self.addresses.kafka.to_string(),
            "kafka.advertised_port" => self.advertised_port().to_string(),
            _ => return None,
        })
    }
}
