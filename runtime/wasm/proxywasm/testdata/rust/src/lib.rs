//! What plugins do, each part once: headers both ways, bodies, answers of its own, calls with pause and continue, shared
//! data, metrics, ticks, queues, properties, and an authority by which routes are matched again. The guest in
//! ../assemblyscript does the same.

use log::info;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root::default()) });
}}

#[derive(Default)]
struct Root {
    config: String,
    requests: u32, // the metric
    queue: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        self.set_tick_period(Duration::from_millis(20));
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        self.config = match self.get_plugin_configuration() {
            Some(b) => String::from_utf8(b).unwrap(),
            None => return false,
        };
        self.requests = hostcalls::define_metric(MetricType::Counter, "requests").unwrap();
        self.queue = self.register_shared_queue("paths");
        true
    }

    fn on_tick(&mut self) {
        add(self, "ticks");
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            info!("queued: {}", String::from_utf8_lossy(&item));
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            config: self.config.clone(),
            requests: self.requests,
            queue: self.queue,
            path: String::new(),
        }))
    }
}

/// Adds one to a number in the shared data, and returns it.
fn add<C: Context + ?Sized>(c: &C, key: &str) -> u32 {
    loop {
        let (value, cas) = c.get_shared_data(key);
        let n = value.map_or(0, |v| String::from_utf8(v).unwrap().parse::<u32>().unwrap()) + 1;
        match c.set_shared_data(key, Some(n.to_string().as_bytes()), cas) {
            Ok(()) => return n,
            Err(Status::CasMismatch) => continue,
            Err(e) => panic!("{:?}", e),
        }
    }
}

struct Stream {
    config: String,
    requests: u32,
    queue: u32,
    path: String,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body: usize, _: usize) {
        let status = self.get_http_call_response_header(":status");
        if headers > 0 && status.as_deref() == Some("200") {
            let user = self.get_http_call_response_body(0, body).unwrap_or_default();
            self.set_http_request_header("x-user", Some(&String::from_utf8_lossy(&user)));
            self.resume_http_request();
            return;
        }
        self.send_http_response(401, vec![("x-why", "unauthorized")], Some(b"who are you?"));
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        hostcalls::increment_metric(self.requests, 1).unwrap();
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        self.add_http_request_header("x-sdk", "guest");
        self.set_http_request_header("x-secret", None);
        self.set_http_request_header("x-count", Some(&add(self, "requests").to_string()));
        let source = self.get_property(vec!["source", "address"]).unwrap_or_default();
        self.set_http_request_header("x-source", Some(&String::from_utf8_lossy(&source)));
        self.enqueue_shared_queue(self.queue, Some(self.path.as_bytes())).unwrap();
        if let Some(tenant) = self.get_http_request_header("x-tenant") {
            self.set_http_request_header(":authority", Some(&(tenant + ".internal")));
        }
        if self.path.starts_with("/deny") {
            self.send_http_response(403, vec![("x-why", "denied")], Some(b"denied"));
            return Action::Pause;
        }
        if self.path.starts_with("/body") {
            self.set_http_request_header("content-length", None);
        }
        if self.path.starts_with("/auth") {
            let token = self.get_http_request_header("authorization").unwrap_or_default();
            let headers = vec![(":method", "GET"), (":path", "/check"), (":authority", "auth"), ("authorization", token.as_str())];
            return match self.dispatch_http_call("auth", headers, None, vec![], Duration::from_secs(2)) {
                Ok(_) => Action::Pause,
                Err(_) => {
                    self.send_http_response(503, vec![], None);
                    Action::Pause
                }
            };
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if !self.path.starts_with("/body") {
            return Action::Continue;
        }
        if !end {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        let text = String::from_utf8_lossy(&body).to_uppercase() + "!";
        self.set_http_request_body(0, size, text.as_bytes());
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header("server", None);
        self.add_http_response_header("x-config", &self.config);
        if self.path.starts_with("/body") {
            self.set_http_response_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !self.path.starts_with("/body") {
            return Action::Continue;
        }
        if !end {
            return Action::Pause;
        }
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        let text = format!("[{}]", String::from_utf8_lossy(&body));
        self.set_http_response_body(0, size, text.as_bytes());
        Action::Continue
    }

    fn on_log(&mut self) {
        let status = self.get_http_response_header(":status").unwrap_or_default();
        info!("done: {} {}", self.path, status);
    }
}
