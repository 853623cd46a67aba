//! Writes every target's seeds into `corpus/`, or lists the targets: `seeds [--list]`.

use std::{env, fs, io};

fn main() -> io::Result<()> {
    let list = env::args().any(|argument| argument == "--list");
    for target in millrace_fuzz::TARGETS {
        if list {
            println!("{}", target.name);
            continue;
        }
        let folder = target.corpus();
        fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
