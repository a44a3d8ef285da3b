//! What a flood consists of: the bytes with which a connection of it begins, and those that it sends again and again.

use racerd::testing::Random;

use super::tally::Tally;
use super::wire;

/// The room in which strangers talk.
const ROOM: &str = "x0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    Pings,
    Pongs,
    /// Requests over HTTP, many at once.
    Pipelined,
    /// Requests over a socket that are answered.
    Answered,
    /// Requests over a socket that are refused.
    Refused,
    /// Messages into one room.
    Appends,
    /// A new room with each request.
    NewRooms,
    History,
    /// Lists of members, which nobody reads.
    Members,
    /// Members who read nothing, while everybody sends.
    SlowReaders,
    Streams,
    /// Messages over HTTP, each with a key of its own.
    KeyedPosts,
    HalfHandshakes,
    /// Handshakes of those who go again.
    Handshakes,
    JoinsAndLeaves,
    Signals,
}

impl Flood {
    pub const ALL: [Flood; 16] = [
        Flood::Pings,
        Flood::Pongs,
        Flood::Pipelined,
        Flood::Answered,
        Flood::Refused,
        Flood::Appends,
        Flood::NewRooms,
        Flood::History,
        Flood::Members,
        Flood::SlowReaders,
        Flood::Streams,
        Flood::KeyedPosts,
        Flood::HalfHandshakes,
        Flood::Handshakes,
        Flood::JoinsAndLeaves,
        Flood::Signals,
    ];

    pub fn count(self, tally: &mut Tally) {
        *match self {
            Flood::Pings => &mut tally.floods_of_pings,
            Flood::Pongs => &mut tally.floods_of_pongs,
            Flood::Pipelined => &mut tally.floods_of_requests_over_http,
            Flood::Answered => &mut tally.floods_of_requests_answered,
            Flood::Refused => &mut tally.floods_of_requests_refused,
            Flood::Appends => &mut tally.floods_of_appends,
            Flood::NewRooms => &mut tally.floods_of_new_rooms,
            Flood::History => &mut tally.floods_of_history,
            Flood::Members => &mut tally.floods_of_members,
            Flood::SlowReaders => &mut tally.floods_of_slow_readers,
            Flood::Streams => &mut tally.floods_of_streams,
            Flood::KeyedPosts => &mut tally.floods_of_keyed_posts,
            Flood::HalfHandshakes => &mut tally.floods_of_half_handshakes,
            Flood::Handshakes => &mut tally.floods_of_handshakes,
            Flood::JoinsAndLeaves => &mut tally.floods_of_joins,
            Flood::Signals => &mut tally.floods_of_signals,
        } += 1;
    }

    /// Returns whether its connections read what they are sent.
    pub fn reads(self) -> bool {
        !matches!(self, Flood::Members | Flood::SlowReaders | Flood::Streams)
    }

    /// Returns whether its connections go as they come.
    pub fn is_brief(self) -> bool {
        matches!(self, Flood::HalfHandshakes | Flood::Handshakes)
    }

    /// Returns the bytes with which a connection begins; `number` is another one for each.
    pub fn opening(self, number: u64, random: &mut Random) -> Vec<u8> {
        let path = format!("/ws?room={ROOM}");
        match self {
            Flood::Pipelined | Flood::NewRooms | Flood::History | Flood::KeyedPosts => Vec::new(),
            Flood::Streams => wire::events(&format!("/rooms/r{}/events", number % 3), None),
            Flood::HalfHandshakes => {
                let mut whole = wire::upgrade("/ws", None);
                whole.truncate(random.below(whole.len()) + 1);
                whole
            }
            Flood::Handshakes => wire::upgrade("/ws", random.coin().then_some("racerd.v1, racerd.session.Zm9yZ2Vk")),
            Flood::Pings | Flood::Pongs | Flood::Answered | Flood::Refused | Flood::JoinsAndLeaves => {
                wire::upgrade("/ws", None)
            }
            Flood::Appends | Flood::Members | Flood::SlowReaders | Flood::Signals => wire::upgrade(&path, None),
        }
    }

    /// Returns what a connection sends once the server has read everything.
    pub fn more(self, number: u64, random: &mut Random) -> Vec<u8> {
        let mut out = Vec::new();
        let mut say = |text: &str, times: u64| (0..times).for_each(|_| out.extend(wire::text(text, false, random)));
        match self {
            Flood::Pings => (0..40).for_each(|_| out.extend(wire::ping(b"", random))),
            Flood::Pongs => (0..40).for_each(|_| out.extend(wire::pong(b"", random))),
            Flood::Pipelined => (0..20).for_each(|_| out.extend(wire::request("GET", "/x", None, ""))),
            Flood::Answered => say("{\"type\":\"ping\"}", 30),
            Flood::Refused => say("{\"type\":\"nonsense\"}", 30),
            Flood::Appends => say(&format!("{{\"type\":\"send\",\"room\":\"{ROOM}\",\"body\":\"{:.<200}\"}}", ""), 8),
            Flood::NewRooms => {
                let path = |n: u64| format!("/rooms/x{number}.{n}/messages");
                (0..4).for_each(|n| out.extend(wire::request("POST", &path(n), None, "1")));
            }
            Flood::History => {
                let path = format!("/rooms/r{}/messages?limit=50", number % 3);
                (0..8).for_each(|_| out.extend(wire::request("GET", &path, None, "")));
            }
            Flood::Members => say(&format!("{{\"type\":\"members\",\"room\":\"{ROOM}\"}}"), 20),
            Flood::SlowReaders => {
                say(&format!("{{\"type\":\"signal\",\"room\":\"{ROOM}\",\"body\":\"{:.<500}\"}}", ""), 4)
            }
            Flood::Streams | Flood::HalfHandshakes | Flood::Handshakes => {}
            Flood::KeyedPosts => {
                let path = format!("/rooms/{ROOM}/messages");
                let post = |n: u64| wire::request("POST", &path, Some(&format!("{number}.{n}")), "1");
                (0..4).for_each(|n| out.extend(post(n)));
            }
            Flood::JoinsAndLeaves => {
                for _ in 0..10 {
                    let what = |what: &str| format!("{{\"type\":\"{what}\",\"room\":\"{ROOM}\"}}");
                    out.extend(wire::text(&what("join"), false, random));
                    out.extend(wire::text(&what("leave"), false, random));
                }
            }
            Flood::Signals => say(&format!("{{\"type\":\"signal\",\"room\":\"{ROOM}\",\"body\":1}}"), 20),
        }
        out
    }
}
