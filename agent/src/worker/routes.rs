//! From a request's path to its answer: the Open Inference Protocol v2 and `/metrics`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    http::request::Parts,
};
use serde_json::{Value, json};

use super::{
    failure::Failure,
    feedback,
    infer::{self, JSON_LENGTH},
    pages,
    reply::Answer,
    service::Service,
    slots::Loaded,
};

pub(super) type Reply = Response<Full<Bytes>>;

/// What a path means.
#[derive(Debug, PartialEq)]
enum Page<'p> {
    Server,
    Live,
    Ready,
    Metrics,
    Model(&'p str, Option<&'p str>),
    ModelReady(&'p str, Option<&'p str>),
    Infer(&'p str, Option<&'p str>),
    Feedback(&'p str, Option<&'p str>),
}

fn page(path: &str) -> Option<Page<'_>> {
    let mut parts = [""; 8];
    let mut count = 0;
    for part in path.strip_prefix('/')?.split('/') {
        *parts.get_mut(count)? = part;
        count += 1;
    }
    Some(match parts[..count] {
        ["v2"] => Page::Server,
        ["v2", "health", "live"] => Page::Live,
        ["v2", "health", "ready"] => Page::Ready,
        ["metrics"] => Page::Metrics,
        ["v2", "models", model] => Page::Model(model, None),
        ["v2", "models", model, "ready"] => Page::ModelReady(model, None),
        ["v2", "models", model, "infer"] => Page::Infer(model, None),
        ["v2", "models", model, "feedback"] => Page::Feedback(model, None),
        ["v2", "models", model, "versions", version, "feedback"] => Page::Feedback(model, Some(version)),
        ["v2", "models", model, "versions", version] => Page::Model(model, Some(version)),
        ["v2", "models", model, "versions", version, "ready"] => Page::ModelReady(model, Some(version)),
        ["v2", "models", model, "versions", version, "infer"] => Page::Infer(model, Some(version)),
        _ => return None,
    })
}

/// Answers one request.
pub(super) async fn answer(service: &Service, request: Request<Incoming>) -> Reply {
    let (parts, mut body) = request.into_parts();
    let mut reply = respond(service, &parts, &mut body).await;
    let closing = reply.headers().contains_key(CONNECTION);
    // Whatever the answer: closing over unread bytes resets the connection, and the answer may be lost with it.
    if !body.is_end_stream() && !closing && !infer::drain(&mut body).await {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn respond(service: &Service, parts: &Parts, body: &mut Incoming) -> Reply {
    let Some(page) = page(parts.uri.path()) else { return refused(service, None, &Failure::NoSuchPage) };
    if let Page::Infer(model, version) = page {
        if parts.method != Method::POST {
            return refused(service, None, &Failure::Method("POST"));
        }
        return match infer::infer(service, (model, version), &parts.headers, body).await {
            (_, Ok(answer)) => inferred(answer),
            (loaded, Err(failure)) => refused(service, loaded.as_deref(), &failure),
        };
    }
    if let Page::Feedback(model, version) = page {
        if parts.method != Method::POST {
            return refused(service, None, &Failure::Method("POST"));
        }
        return match feedback::feedback(service, (model, version), &parts.headers, body).await {
            Ok((status, value)) => json_reply(status, &value),
            Err(failure) => refused(service, None, &failure),
        };
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return refused(service, None, &Failure::Method("GET"));
    }
    read(service, &page).unwrap_or_else(|failure| refused(service, None, &failure))
}

fn read(service: &Service, page: &Page<'_>) -> Result<Reply, Failure> {
    Ok(match page {
        Page::Server => json_reply(StatusCode::OK, &pages::server()),
        Page::Live => json_reply(StatusCode::OK, &json!({"live": true})),
        Page::Ready => ready(service.is_ready(), &json!({"ready": service.is_ready()})),
        Page::Metrics => {
            let mut reply = reply(StatusCode::OK, pages::metrics(service).into());
            let text = HeaderValue::from_static("text/plain; version=0.0.4");
            reply.headers_mut().insert(CONTENT_TYPE, text);
            reply
        }
        Page::Model(model, version) => {
            let loaded = service.slots.find(model, *version)?;
            json_reply(StatusCode::OK, &pages::model(service, &loaded))
        }
        Page::ModelReady(model, version) => {
            let loaded = service.slots.find(model, *version)?;
            let is_ready = !*service.stopping.borrow();
            ready(is_ready, &json!({"name": loaded.model_name, "model_version": loaded.version, "ready": is_ready}))
        }
        Page::Infer(..) | Page::Feedback(..) => return Err(Failure::Method("POST")),
    })
}

fn ready(is_ready: bool, value: &Value) -> Reply {
    json_reply(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, value)
}

fn inferred(answer: Answer) -> Reply {
    let mut response = reply(StatusCode::OK, answer.body.into());
    let headers = response.headers_mut();
    match answer.json_bytes {
        Some(length) => {
            headers.insert(JSON_LENGTH, HeaderValue::from(length));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        None => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
    }
    response
}

/// The refusal, counted; with the version that was asked where there is one.
fn refused(service: &Service, loaded: Option<&Loaded>, failure: &Failure) -> Reply {
    service.refuse(failure);
    let mut value = json!({"error": failure.to_string()});
    if let Some(loaded) = loaded {
        value["model_name"] = loaded.model_name.as_str().into();
        value["model_version"] = loaded.version.as_str().into();
        value["parameters"] = json!({"contract_digest": loaded.contract_digest});
    }
    let mut response = json_reply(failure.status(), &value);
    let headers = response.headers_mut();
    match failure {
        Failure::Overload => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Failure::Method(allowed) => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    if failure.ends_connection() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn json_reply(status: StatusCode, value: &Value) -> Reply {
    let mut response = reply(status, value.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_meaning() {
        assert_eq!(page("/v2"), Some(Page::Server));
        assert_eq!(page("/v2/models/m/infer"), Some(Page::Infer("m", None)));
        assert_eq!(page("/v2/models/m/feedback"), Some(Page::Feedback("m", None)));
        assert_eq!(page("/v2/models/m/versions/1.0.0/feedback"), Some(Page::Feedback("m", Some("1.0.0"))));
        assert_eq!(page("/v2/models/m/versions/1.0.0/ready"), Some(Page::ModelReady("m", Some("1.0.0"))));
        assert_eq!(page("/v2/models/m/versions/1.0.0"), Some(Page::Model("m", Some("1.0.0"))));
        for path in ["", "/", "/v2/", "/v2/models", "/v2/models/m/infer/", "/v3", "/a/b/c/d/e/f/g/h/i/j"] {
            assert_eq!(page(path), None, "{path}");
        }
    }
}
