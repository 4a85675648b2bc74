//! Tests of the SDK by its tester.

use super::*;
use crate::*;

struct All {
    header: Header,
    service: Service,
    store: Store,
    asked: Counter,
}

impl Plugin for All {
    const RESPONSES: Responses = Responses::Marked;

    fn configure(c: &mut Config) -> Result<Self, Error> {
        c.buffer_request_body(1000, &[BodyFlag::OnDemand]);
        c.stream_response_body(&[]);
        c.tick(Duration::from_secs(1));
        Ok(All {
            header: c.request_header("X-A"),
            service: c.service("auth"),
            store: c.store("cache"),
            asked: c.counter("asked", ""),
        })
    }

    fn request(&mut self, r: &Request) -> Decision {
        self.asked.add(1.0);
        if let Some(body) = r.body() {
            r.set_body([&body, r.lookup_trailer("sum", 0).unwrap_or_default().as_slice()].concat());
            return Decision::Continue;
        }
        if r.method() == "POST" {
            r.want_body();
            return Decision::Continue;
        }
        let key = r.header(self.header);
        if let Some((value, version)) = self.store.get(key) {
            let _ = self.store.compare_and_set(key, [&value, &b"+"[..]].concat(), version, Duration::ZERO);
            return r.respond(200, value, &[]);
        }
        let request = OutboundRequest::post("/check", key).query("q").header("a", "b").timeout(Duration::from_millis(250));
        match r.call(self.service, &request) {
            Ok(a) => {
                let _ = self.store.set(key, a.header("x-user"), Duration::from_secs(1));
                Decision::fail(format!("{} {} {:?}", a.status(), a.body().len(), a.took()))
            }
            Err(e) => Decision::fail(e.to_string()),
        }
    }

    fn response_body(&mut self, p: &Piece) -> Decision {
        p.set_word(p.word() + p.data().len() as u64);
        if p.last() {
            return p.replace("end");
        }
        p.keep(1);
        Decision::Continue
    }

    fn tick(&mut self, _: &Tick) -> Result<(), Error> {
        match self.store.add("n", 2, Duration::ZERO) {
            Ok(4) => Err("four".into()),
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string().into()),
        }
    }
}

#[test]
fn calls_and_state() {
    let mut p = Tester::<All>::new("").unwrap();
    let m = Message::get("/").header("x-a", "key");
    assert_eq!(p.request(&m).text, "no connection to the upstream");
    p.on_call(|o| {
        assert_eq!((o.service.as_str(), o.method.as_str(), o.path.as_str(), o.query.as_str()), ("auth", "POST", "/check", "q"));
        assert_eq!((o.body.as_slice(), o.timeout), (&b"key"[..], Some(Duration::from_millis(250))));
        let headers = vec![("X-User".into(), "7".into())];
        Ok(OutboundAnswer { status: 200, headers, body: vec![b'x'; 5000], ..OutboundAnswer::default() })
    });
    assert_eq!(p.request(&m).text, "200 5000 0ns");
    assert_eq!(p.request(&m).text, "7");
    assert_eq!(p.request(&m).text, "7+");
    let later = Message { time: m.time + 1000, ..m.clone() };
    p.on_call(|_| Err(Failure::Timeout));
    assert_eq!(p.request(&later).text, "7++"); // what was set last does not expire
    assert_eq!(p.request(&later.header("x-a", "other")).text, "7+++");
    assert_eq!(p.measured("asked"), [1.0; 6]);
    assert_eq!(p.tick(0).decision, "continue");
    assert_eq!(p.tick(0).text, "four");
}

#[test]
fn bodies() {
    let mut p = Tester::<All>::new("").unwrap();
    let mut m = Message { method: "POST".into(), ..Message::default() };
    assert_eq!(p.request(&m).edits, ["want_body"]);
    m.body = Some(b"12".to_vec());
    m.trailers = vec![(b"Sum".to_vec(), b"3".to_vec())];
    let a = p.request(&m);
    assert_eq!((a.text.as_str(), a.edits), ("123", vec!["set_body".to_string()]));
    let a = p.response_body(&BodyPiece { data: b"abc".to_vec(), word: 4, ..BodyPiece::default() });
    assert_eq!(a.edits, ["context 7", "keep 1"]);
    let a = p.response_body(&BodyPiece { last: true, ..BodyPiece::default() });
    assert_eq!(a.text, "end");
}
