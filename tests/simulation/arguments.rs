//! The command line's options.

pub struct Arguments {
    pub seed: Option<u64>,
    pub from: u64,
    pub seeds: u64,
    pub actions: u64,
    pub trace: bool,
    /// Every log that outlives the server is kept in a database.
    pub databases: bool,
    /// The run is large enough that each kind of fault has to occur in at least one seed.
    pub must_see_all: bool,
}

const USAGE: &str = "usage: cargo test -F testing --test simulation -- [--full | --seed N | --from N --seeds N] [--actions N] [--databases] [--trace]";

impl Arguments {
    /// Reads the arguments. Returns `None` if the filter asks for other tests.
    pub fn read() -> Result<Option<Arguments>, String> {
        let mut read = Arguments {
            seed: None,
            from: 1,
            seeds: 50,
            actions: 500,
            trace: false,
            databases: false,
            must_see_all: false,
        };
        let mut list = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = list.next() {
            let mut number = || {
                let text = list.next().unwrap_or_default();
                text.parse::<u64>().map_err(|_| format!("{argument} needs a number, not '{text}'; {USAGE}"))
            };
            match argument.as_str() {
                "--full" => (read.seeds, read.actions, read.must_see_all) = (1050, 1000, true),
                "--seed" => read.seed = Some(number()?),
                "--from" => read.from = number()?,
                "--seeds" => read.seeds = number()?,
                "--actions" => read.actions = number()?,
                "--trace" => read.trace = true,
                "--databases" => read.databases = true,
                // Options that cargo passes to all tests: a filter by name, or how to show output.
                "--nocapture" | "--show-output" | "--quiet" | "-q" => continue,
                "--test-threads" | "--skip" | "--color" | "--format" => {
                    list.next();
                    continue;
                }
                name if !name.starts_with('-') && "simulation".contains(name) => continue,
                name if !name.starts_with('-') => return Ok(None),
                "--list" => return Ok(None),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(Some(read))
    }
}
