//! The faults of a run and their frequency. Each run draws its own mix, in which some faults never occur: a fault that
//! always strikes hides bugs that only show when the rest works.

use racerd::testing::{Ppm, Random};

use super::agenda::{MILLISECOND, Micros, SECOND};
use super::clock::USUAL_WALL;
use super::doors::Doors;
use super::encryption::Encryption;
use super::keeping::Keeping;
use super::limits::Limits;
use super::making::MakingRates;
use super::settings;
use super::strangers::Crowd;

#[derive(Debug)]
pub struct Mix {
    pub limits: Limits,
    pub keeping: Keeping,
    pub encryption: Encryption,
    pub doors: Doors,
    pub crowd: Crowd,
    pub clients: usize,
    /// The number of clients that speak sealed: the first ones.
    pub sealed: usize,
    pub rooms: usize,
    /// Every two clients share a name.
    pub namesakes: bool,
    /// The time that a client waits between two actions.
    pub think: (Micros, Micros),
    pub network: NetworkFaults,
    pub store: StoreFaults,
    pub server: ServerFaults,
    pub habits: Habits,
}

#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    /// The one-way delay.
    pub latency: (Micros, Micros),
    /// The most bytes that arrive at once.
    pub chunk: usize,
    /// Bytes that the kernels buffer for a peer that does not read.
    pub window: usize,
    /// Per movement of bytes.
    pub reset: Ppm,
    pub silence: Ppm,
    /// The next movement of bytes is much delayed.
    pub standstill: Ppm,
}

#[derive(Clone, Copy, Debug)]
pub struct StoreFaults {
    pub commit: (Micros, Micros),
    pub read: (Micros, Micros),
    /// The delay from the store's decision to the loop.
    pub answer: (Micros, Micros),
    /// The most writes of one transaction.
    pub batch: usize,
    /// Per transaction.
    pub fails: Ppm,
    /// The transaction is stored but reported as failed.
    pub unsure: Ppm,
    pub read_fails: Ppm,
    pub repeats: Ppm,
    /// Reads are answered out of order.
    pub shuffles: bool,
    /// The in-memory log answers as soon as it is asked, as the real one does.
    pub inline: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct ServerFaults {
    /// The approximate time between two of each; 0 for never.
    pub kill: Micros,
    pub power_cut: Micros,
    pub stop: Micros,
    pub suspend: Micros,
    pub set_clock: Micros,
    pub reload: Micros,
    pub disk_full: Micros,
    /// How long the server stays down.
    pub down: (Micros, Micros),
    /// The longest time that a turn of the loop takes.
    pub turn: Micros,
    /// Of the monotonic clock, in thousandths.
    pub speed: u64,
    /// The initial wall time, in microseconds since 1970.
    pub wall: Micros,
}

/// Client actions other than sending: weights against 1000 of a send, 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub join: usize,
    pub leave: usize,
    pub history: usize,
    pub members: usize,
    pub signal: usize,
    pub ping: usize,
    pub post: usize,
    pub browse: usize,
    pub listen: usize,
    pub stall: usize,
    pub trickle: usize,
    pub close: usize,
    pub reset: usize,
    pub vanish: usize,
    pub half_close: usize,
    pub second_socket: usize,
    pub old_token: usize,
    pub reuse_key: usize,
    pub garbage: usize,
    /// Sealed clients only: breaking the sequence.
    pub damage: usize,
    /// Per return: some rooms are not named.
    pub forgets: Ppm,
    /// Per send: it has no key.
    pub keyless: Ppm,
    /// Per return to a session that began sealed: the client tries it in the clear.
    pub shows: Ppm,
    /// Per return to any other session: the client uses a sealed socket.
    pub hides: Ppm,
    /// Per frame: it is sent in fragments.
    pub fragments: Ppm,
}

impl Mix {
    /// Draws the mix of a seed. Returns it with the random source for the rest of the run.
    pub fn draw(seed: u64, databases: bool) -> (Mix, Random) {
        let mut random = Random::new(seed);
        let mix = Mix::draw_from(&mut random, seed, databases);
        (mix, random)
    }

    fn draw_from(random: &mut Random, seed: u64, databases: bool) -> Mix {
        let making = MakingRates::draw(&mut Random::new(!seed ^ 0x400d5));
        let mut apart = Random::new(!seed ^ 0xc20bd);
        let crowd = Crowd::draw(&mut apart);
        let limits = crowd.limit(Limits { making, ..Limits::draw(random) }, &mut apart);
        let quickest = random.magnitude((100, 100 * MILLISECOND));
        let clients = random.magnitude((1, 24)) as usize;
        // Handshakes are expensive to simulate, so most clients speak open.
        let sealed = match random.below(24) {
            0 => clients,
            1..7 => random.magnitude((1, clients as u64)) as usize,
            _ => 0,
        };
        let keeping = Keeping::draw(&limits, databases, &mut Random::new(!seed));
        let limits = Limits { park_for: keeping.brief.unwrap_or(limits.park_for), ..limits };
        let doors = Doors::draw(&mut Random::new(!seed ^ 0xd0025));
        let encryption = Encryption::draw(&mut Random::new(!seed ^ 0xe2e));
        Mix {
            limits,
            keeping,
            encryption,
            doors,
            crowd,
            clients,
            sealed,
            rooms: random.magnitude((1, 6)) as usize + if keeping.brief.is_some() { 2 } else { 0 },
            namesakes: random.below(4) == 0,
            think: (quickest, quickest + random.magnitude((MILLISECOND, 2 * SECOND))),
            network: NetworkFaults::draw(random),
            store: StoreFaults::draw(random),
            server: ServerFaults {
                reload: settings::draw_interval(&mut Random::new(!seed ^ 0x5e77)),
                ..ServerFaults::draw(random)
            },
            habits: Habits::draw(random),
        }
    }

    /// Ends all faults: links are quick and intact, the disk works, and nothing is killed.
    pub fn calm_down(&mut self) {
        self.network.latency = (100, 2 * MILLISECOND);
        self.network.reset = 0;
        self.network.silence = 0;
        self.network.standstill = 0;
        self.store.fails = 0;
        self.store.unsure = 0;
        self.store.read_fails = 0;
        self.store.repeats = 0;
        self.store.commit = (100, 5 * MILLISECOND);
        self.store.read = (100, 5 * MILLISECOND);
        self.store.answer = (10, MILLISECOND);
        self.server.turn = self.server.turn.min(MILLISECOND);
        self.think = (50 * MILLISECOND, 500 * MILLISECOND);
        self.doors.max_connections = 0;
    }
}

/// Gives every second run this fault, with a drawn probability in millionths.
fn sometimes(random: &mut Random, first: u64, last: u64) -> Ppm {
    if random.coin() { random.magnitude((first, last)) as Ppm } else { 0 }
}

/// Draws a range that begins at zero.
fn up_to(random: &mut Random, last: Micros) -> (Micros, Micros) {
    let longest = random.magnitude((10, last));
    (longest / 10, longest)
}

impl NetworkFaults {
    fn draw(random: &mut Random) -> NetworkFaults {
        NetworkFaults {
            latency: up_to(random, 200 * MILLISECOND),
            // Single bytes are expensive to simulate, so few runs have them.
            chunk: match random.below(16) {
                0 => random.magnitude((1, 32)) as usize,
                1..7 => random.magnitude((32, 4096)) as usize,
                _ => usize::MAX,
            },
            window: random.magnitude((256, 65_536)) as usize,
            reset: sometimes(random, 100, 20_000),
            silence: sometimes(random, 100, 5000),
            standstill: sometimes(random, 100, 5000),
        }
    }
}

impl StoreFaults {
    fn draw(random: &mut Random) -> StoreFaults {
        // Some answers take so long that their room is gone meanwhile, and possibly there again.
        let slowest_answer = if random.below(4) == 0 { 3 * SECOND } else { 50 * MILLISECOND };
        StoreFaults {
            commit: up_to(random, 500 * MILLISECOND),
            read: up_to(random, 500 * MILLISECOND),
            answer: up_to(random, slowest_answer),
            batch: if random.coin() { usize::MAX } else { random.magnitude((1, 16)) as usize },
            fails: sometimes(random, 1000, 200_000),
            unsure: sometimes(random, 1000, 200_000),
            read_fails: sometimes(random, 1000, 200_000),
            repeats: sometimes(random, 1000, 50_000),
            shuffles: random.coin(),
            inline: random.coin(),
        }
    }
}

impl ServerFaults {
    fn draw(random: &mut Random) -> ServerFaults {
        let every = |random: &mut Random| match random.coin() {
            true => random.magnitude((2 * SECOND, 120 * SECOND)),
            false => 0,
        };
        ServerFaults {
            kill: every(random),
            power_cut: every(random),
            stop: every(random),
            suspend: every(random),
            set_clock: every(random),
            reload: 0,
            disk_full: every(random),
            down: up_to(random, 20 * SECOND),
            turn: random.magnitude((1, 20 * MILLISECOND)),
            speed: random.within((500, 2000)),
            wall: if random.below(4) == 0 { 0 } else { USUAL_WALL },
        }
    }
}

impl Habits {
    fn draw(random: &mut Random) -> Habits {
        let mut some = |most: u64| if random.coin() { random.magnitude((1, most)) as usize } else { 0 };
        Habits {
            join: 50 + some(300),
            leave: some(400),
            history: some(200),
            members: some(100),
            signal: some(300),
            ping: some(300),
            post: some(100),
            browse: some(50),
            listen: some(30),
            stall: some(60),
            trickle: some(60),
            close: some(30),
            reset: some(60),
            vanish: some(30),
            half_close: some(30),
            second_socket: some(60),
            old_token: some(30),
            reuse_key: some(30),
            garbage: some(30),
            damage: some(60),
            forgets: some(200_000) as Ppm,
            keyless: some(200_000) as Ppm,
            fragments: some(200_000) as Ppm,
            shows: some(100_000) as Ppm,
            hides: some(300_000) as Ppm,
        }
    }
}
