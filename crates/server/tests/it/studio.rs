//! The pages, if this checkout has them built; what is on them, the browser's own tests see.

use std::path::Path;

use crate::support::{Client, start};

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let no_redirects = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().redirect(no_redirects).build().unwrap();
    let request = headers
        .iter()
        .fold(http.get(client.url(path)), |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

#[tokio::test]
async fn the_front_door_is_the_studio_or_leads_to_the_descriptions() {
    let running = start(|_| {}).await;
    let client = &running.client;
    let home = get(client, "/", &[]).await;
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/studio/dist/index.html").exists() {
        assert_eq!((home.status().as_u16(), &home.headers()["location"]), (303, &"/docs".parse().unwrap()));
        return;
    }
    assert_eq!(home.status(), 200);
    let policy = include_str!("../../../../web/studio/content-security-policy.txt");
    assert_eq!(home.headers()["content-security-policy"], policy.trim());
    assert_eq!(home.headers()["cache-control"], "no-cache");
    let tag = home.headers()["etag"].to_str().unwrap().to_owned();
    let shell = home.text().await.unwrap();
    assert_eq!(get(client, "/", &[("if-none-match", &tag)]).await.status(), 304);
    assert_eq!(get(client, "/likes", &[]).await.text().await.unwrap(), shell, "each page is the same file");

    let script = shell.split('"').find(|part| part.starts_with("/assets/") && part.ends_with(".js")).unwrap();
    let plain = get(client, script, &[]).await;
    assert_eq!(plain.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(plain.headers().get("content-encoding"), None);
    let compressed = get(client, script, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let (plain, compressed) = (plain.bytes().await.unwrap(), compressed.bytes().await.unwrap());
    assert!(compressed.len() < plain.len(), "{} of {}", compressed.len(), plain.len());

    let nowhere = get(client, "/nowhere", &[("accept", "text/html,*/*")]).await;
    assert_eq!((nowhere.status().as_u16(), nowhere.text().await.unwrap()), (404, shell));
    let missing = get(client, "/assets/missing.js", &[]).await;
    assert_eq!(
        (missing.status().as_u16(), &missing.headers()["content-type"]),
        (404, &"application/problem+json".parse().unwrap())
    );
}
