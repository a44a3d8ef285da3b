//! Counts of events, which show that a run was not empty.

macro_rules! tally {
    ($($(#[doc = $doc:literal])* $name:ident: $words:literal,)*) => {
        /// Counts of one run, or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Tally {
            pub fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }

            /// Returns each count with its label.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$(($words, self.$name),)*]
            }
        }
    };
}

tally! {
    actions: "client actions",
    turns: "turns of the loop",
    connects: "sockets opened",
    sealed: "sealed sockets opened",
    named: "names taken with a join",
    resumed_sealed: "resumed over a sealed socket",
    hidden: "open sessions resumed over a sealed socket",
    shown: "private sessions refused in the clear",
    resumed_secure: "private sessions resumed by TLS",
    kept_out: "turned away as nothing is told in the clear",
    spoilt: "sealed sequences broken on purpose",
    spoilt_handshakes: "sealed handshakes broken on purpose",
    condemned: "closed for what was broken",
    joins: "joined",
    sends: "sends",
    resent: "sends repeated",
    posts: "posts",
    acks: "acknowledged",
    duplicates: "acknowledged as duplicates",
    keys_reused: "keys refused for another body",
    encrypted: "messages encrypted",
    replays: "sealed bodies of others refused",
    replays_taken: "sealed bodies of others taken that were not there",
    squats: "keys of others taken",
    faulty_bodies: "bodies refused as they are",
    messages: "messages heard",
    signals: "signals heard",
    pages: "pages of history",
    pongs: "heads compared",
    rosters: "lists of members",
    resumes: "resumed",
    resumed_elsewhere: "closed, resumed elsewhere",
    superseded: "closed by a late attempt of one's own",
    not_resumable: "tokens refused",
    old_tokens: "old tokens refused",
    restored: "unnamed rooms given back",
    unrecovered: "joined, not recovered",
    new_epochs: "joined in a new epoch",
    lags: "lagging",
    gaps: "gaps",
    rate_limited: "rate limited",
    not_made: "first messages refused, as too many rooms were made",
    turned_away: "turned away at the door",
    full: "turned away as the server is full",
    unavailable: "not stored, said the store",
    refused_full: "refused as the database has its size",
    too_slow: "closed as too slow",
    no_memory: "closed for want of memory",
    no_pong: "closed without a pong",
    byes: "byes",
    resets: "links reset",
    silences: "links gone silent",
    standstills: "links that stood still",
    half_closes: "links half closed",
    stalls: "readers that stopped",
    trickles: "readers that dripped",
    garbage: "nonsense sent",
    kills: "kills",
    power_cuts: "power cuts",
    stops: "stops in order",
    suspends: "jumps of the monotonic clock",
    clocks_set: "jumps of the wall clock",
    reloads: "settings read again",
    commits: "commits",
    commits_failed: "commits failed",
    commits_unsure: "commits unsure",
    reads: "reads",
    reads_failed: "reads failed",
    answers_repeated: "answers repeated",
    reads_overtook: "reads that overtook a commit",
    disk_full: "spells of a full disk",
    parked: "sessions parked",
    claims_failed: "claims failed",
    claimed: "parked sessions claimed",
    streams: "event streams opened",
    events: "events heard",
    stream_gaps: "gaps in event streams",
    beyond: "joined from beyond the head",
    lists_over_http: "lists of members over HTTP",
    lists: "lists of members compared",
    presences: "times that all knew who was here",
    signals_looked_for: "signals looked for",
    rests: "rests at which nothing was owed",
    lost_commits: "commits lost in a power cut",
    databases: "databases opened",
    upkeeps: "pieces of upkeep",
    damaged: "sealed rows gone bad",
    damaged_plain: "plain rows gone bad",
    unreadable: "messages heard as unreadable",
    pruned: "messages gone by age, count or size",
}
