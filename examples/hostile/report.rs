//! Writes what was measured: a table for people and one JSON object a line for programs.

use serde_json::{Value, json};

use crate::judge::{Figures, Seen, Share, Spread};

/// What was measured of one attack in one form.
pub struct Row {
    pub attack: &'static str,
    pub form: &'static str,
    pub server: &'static str,
    pub figures: Figures,
    /// What the attacker did, as its own process counted it, and the part of a processor that it took.
    pub load: Value,
    pub load_cpu: f64,
    pub seconds: f64,
    pub faults: Vec<String>,
    pub note: Option<String>,
}

pub const HEAD: &str = "\
| attack | from | load held, sent | ping p50 / p99, ms | delivery p50 / p99, ms | work until answered p99, ms; turns p50 / p99 | handshakes' p99, \
ms | handshakes, resumes, reads | lost | server CPU, a turn | memory, kernel | log | load's CPU | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl Row {
    /// Returns the line of the table.
    pub fn line(&self) -> String {
        let Figures { quiet, during, fate, .. } = &self.figures;
        let number = |name: &str| self.load[name].as_f64().unwrap_or_default();
        let opened = number("opened") / self.seconds;
        let held = format!("{} conns, {opened:.0} opened/s, {}", number("held"), rate(number("sent") / self.seconds));
        let turn = self.figures.turn.map_or_else(|| "?".to_owned(), |turn| format!("{turn:.1} ms"));
        let verdict = if self.faults.is_empty() { "kept".to_owned() } else { self.faults.join("; ") };
        let note = self.note.as_deref().into_iter().chain(self.figures.failed.first().map(String::as_str));
        let note = note.map(|note| format!(" ({note})")).collect::<String>();
        let lost = fate.lost + fate.doubled + fate.reordered + fate.unanswered;
        let cells = [
            self.attack.to_owned(),
            self.form.to_owned(),
            held,
            before_and_during(&quiet.ping, &during.ping),
            before_and_during(&quiet.delivery, &during.delivery),
            format!("{:.0}; {}", during.work.p99, turns(&during.turns)),
            format!("{:.0} → {:.0}", quiet.handshake.p99, during.handshake.p99),
            format!("{}, {}, {}", share(during.newcomers), share(during.resumes), share(during.reads)),
            format!("{lost}"),
            format!("{:.0} %, {turn}", self.figures.cpu * 100.0),
            format!("{}, {} MiB", self.figures.memory >> 20, self.figures.kernel >> 20),
            format!("{}, {:.0} lines/s", rate(self.figures.log), self.figures.lines),
            format!("{:.0} %", self.load_cpu * 100.0),
            format!("{verdict}{note}"),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// Returns everything that was measured.
    pub fn json(&self) -> Value {
        let Figures { quiet, during, fate, .. } = &self.figures;
        json!({
            "attack": self.attack, "from": self.form, "server": self.server, "seconds": self.seconds,
            "quiet": seen(quiet), "during": seen(during),
            "messages": {
                "sent": fate.sent, "lost": fate.lost, "doubled": fate.doubled, "reordered": fate.reordered,
                "unanswered": fate.unanswered, "refused": fate.refused,
            },
            "cpu": self.figures.cpu, "turn_ms": self.figures.turn,
            "most_work_in_a_turn": self.figures.most_work, "memory": self.figures.memory, "kernel_memory": self.figures.kernel,
            "log_bytes_per_second": self.figures.log, "log_lines_per_second": self.figures.lines,
            "history": [self.figures.history.0, self.figures.history.1], "ended": self.figures.ended,
            "failed": self.figures.failed, "load": self.load, "load_cpu": self.load_cpu, "faults": self.faults, "note": self.note,
        })
    }
}

fn seen(seen: &Seen) -> Value {
    let spread =
        |spread: &Spread| json!({"count": spread.count, "p50": spread.p50, "p99": spread.p99, "max": spread.max});
    let share = |share: Share| json!([share.done, share.tried]);
    json!({
        "ping_ms": spread(&seen.ping), "delivery_ms": spread(&seen.delivery), "work_ms": spread(&seen.work), "turns": spread(&seen.turns), "handshake_ms": spread(&seen.handshake),
        "handshakes": share(seen.newcomers), "resumes": share(seen.resumes), "reads": share(seen.reads),
        "dropped": seen.dropped,
    })
}

/// Returns the turns until answered, where the server counted them.
fn turns(turns: &Spread) -> String {
    if turns.count == 0 { "?".to_owned() } else { format!("{} / {}", turns.p50, turns.p99) }
}

fn share(share: Share) -> String {
    format!("{}/{}", share.done, share.tried)
}

fn before_and_during(before: &Spread, during: &Spread) -> String {
    format!("{:.1} / {:.1} → {:.1} / {:.1}", before.p50, before.p99, during.p50, during.p99)
}

fn rate(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes => format!("{:.0} KB/s", bytes / 1e3),
    }
}
