//! A failing run as a small file, so that a test can run it for ever after.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::plan::{Mix, Plan};
use crate::simulator::Scenario;
use crate::time::as_nanoseconds;

/// A run that once failed, with the few faults that it needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// The simulator that it is for.
    pub simulator: String,
    /// That simulator's version when the file was written.
    pub version: u32,
    /// The seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// The mix that the faults were drawn from.
    pub mix: Mix,
    /// How much virtual time the run covers.
    #[serde(rename = "length_ns", with = "as_nanoseconds")]
    pub length: Duration,
    /// The faults.
    pub plan: Plan,
    /// What went wrong, for people.
    pub note: String,
}

/// A regression file that cannot be read or written.
#[derive(Debug, Error)]
pub enum RegressionError {
    /// The system refused.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON, or not of this form.
    #[error("{path} is no regression file: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A fault names a node that the world does not have, or a share beyond 0 to 1.
    #[error("{path}: in a world of {nodes} nodes there can be no fault '{fault}'")]
    Impossible {
        /// The file.
        path: PathBuf,
        /// How many nodes it says there are.
        nodes: usize,
        /// The fault.
        fault: String,
    },
}

impl Regression {
    /// What to run, besides the plan.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        Scenario {
            seed: self.seed,
            nodes: self.nodes,
            mix: self.mix,
            length: self.length,
        }
    }

    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self, RegressionError> {
        let text = fs::read_to_string(path).map_err(|source| file_error(path, source))?;
        let regression: Self =
            serde_json::from_str(&text).map_err(|source| RegressionError::Format {
                path: path.to_owned(),
                source,
            })?;
        let nodes = regression.nodes;
        let impossible = |timed: &&crate::Timed| !timed.fault.fits(nodes);
        match regression.plan.faults.iter().find(impossible) {
            Some(timed) => Err(RegressionError::Impossible {
                path: path.to_owned(),
                nodes,
                fault: timed.fault.to_string(),
            }),
            None => Ok(regression),
        }
    }

    /// Reads all files of a folder whose names end with `.json`, in the order of their names. A
    /// folder that does not exist is an error: a test over it would pass without a run.
    pub fn read_directory(directory: &Path) -> Result<Vec<(PathBuf, Self)>, RegressionError> {
        let failed = |source| file_error(directory, source);
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .into_iter()
            .map(|path| Self::read(&path).map(|regression| (path, regression)))
            .collect()
    }

    /// Writes the file into a folder, which is made if need be, under a name that says what it is.
    /// A file of the same run is replaced.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, RegressionError> {
        fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
        let name = format!("{}-{}-{}.json", self.simulator, self.mix, self.seed);
        let path = directory.join(name);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|source| RegressionError::Format {
                path: path.clone(),
                source,
            })?;
        text.push('\n');
        fs::write(&path, text).map_err(|source| file_error(&path, source))?;
        Ok(path)
    }
}

fn file_error(path: &Path, source: io::Error) -> RegressionError {
    RegressionError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Fault, Timed};
    use crate::time::Time;

    fn regression(seed: u64, mix: Mix) -> Regression {
        let scenario = Scenario {
            seed,
            nodes: 5,
            mix,
            length: Duration::from_secs(60),
        };
        let mut plan = scenario.plan();
        plan.add(Timed {
            at: Time(7),
            lasts: Duration::from_nanos(123_456_789_012),
            fault: Fault::Custom {
                name: "restart".to_owned(),
                node: 4,
                amount: u64::MAX,
            },
        });
        Regression {
            simulator: "example".to_owned(),
            version: 3,
            seed,
            nodes: 5,
            mix,
            length: scenario.length,
            plan,
            note: "two \"leaders\"\nin term 5".to_owned(),
        }
    }

    #[test]
    fn files_round_trip() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = directory.path().join("made/if/need/be");
        let mut written = Vec::new();
        for mix in Mix::ALL {
            for seed in (0..40).chain([u64::MAX]) {
                let regression = regression(seed, mix);
                let path = regression.write(&folder).expect("written");
                assert_eq!(Regression::read(&path).expect("read"), regression);
                written.push((path, regression));
            }
        }
        fs::write(folder.join("README.md"), "not a run").expect("written");
        written.sort_by(|(one, _), (other, _)| one.cmp(other));
        let read = Regression::read_directory(&folder).expect("read");
        assert_eq!(read, written);
        let scenario = read[0].1.scenario();
        assert_eq!((scenario.nodes, scenario.mix), (5, Mix::Calm));
    }

    #[test]
    fn what_is_no_regression_file_is_refused_with_its_name() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("broken.json");
        let json = |nodes: usize, fault: &str| {
            format!(
                r#"{{"simulator": "raft", "version": 1, "seed": 1, "nodes": {nodes},
                    "mix": "calm", "length_ns": 5, "note": "",
                    "plan": {{"faults": [{{"at_ns": 1, "lasts_ns": 1, "fault": {fault}}}]}}}}"#
            )
        };
        let refuse = |text: &str| {
            fs::write(&path, text).expect("written");
            let error = Regression::read(&path).expect_err(text).to_string();
            assert!(error.contains("broken.json"), "{error}");
            error
        };
        refuse("");
        refuse(&json(3, r#"{"kind": "flood", "node": 1}"#));
        refuse(&json(3, r#"{"kind": "crash", "node": 1, "severity": 2}"#));
        refuse(&json(3, r#"{"kind": "crash", "node": -1}"#));
        let error = refuse(&json(3, r#"{"kind": "crash", "node": 3}"#));
        assert!(error.contains("node 3 crashes"), "{error}");
        refuse(&json(
            3,
            r#"{"kind": "partition", "groups": [[0], [0, 1]]}"#,
        ));
        fs::write(&path, json(3, r#"{"kind": "crash", "node": 2}"#)).expect("written");
        assert_eq!(Regression::read(&path).expect("sound").nodes, 3);
        assert!(Regression::read(&directory.path().join("absent.json")).is_err());
        assert!(Regression::read_directory(&directory.path().join("absent")).is_err());
    }
}
