// Keeps the pages, so that they open without a network.
//
// Invariant: what the server answers itself is never touched or kept. A page comes from the network if that
// answers in time, so a new build is seen at the next visit; an asset, whose name changes with its content, comes
// from the cache. The build before this one stays, for the pages that are still open with it.

const BUILD = __BUILD__;
const PREFIX = "sillage-studio-";
const CACHE = PREFIX + BUILD.version;
/** How many builds are kept. */
const KEPT = 2;
/** How long a page may take to come from the network, in milliseconds. */
const PATIENCE = 4_000;

/** A file is the same, however it is asked for. */
const SAME = { ignoreVary: true };
const ASSETS = "/assets/";
const others = BUILD.files.filter((file) => !file.startsWith(ASSETS));

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(activate());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin || isOfServer(pathname)) return;
  if (request.mode === "navigate") event.respondWith(page(request));
  else if (pathname.startsWith(ASSETS)) event.respondWith(kept(request));
  else if (others.includes(pathname)) event.respondWith(fresh(request, request));
});

async function install() {
  // Anew, so that the order of the caches is that of the builds.
  await caches.delete(CACHE);
  const cache = await caches.open(CACHE);
  // An asset may come from the cache of the browser, which has just loaded it for the page.
  const requests = BUILD.files.map((file) =>
    others.includes(file) ? new Request(file, { cache: "no-cache" }) : file,
  );
  await cache.addAll(requests);
  await self.skipWaiting();
}

async function activate() {
  const builds = (await caches.keys()).filter((name) => name.startsWith(PREFIX));
  const old = builds.filter((name) => name !== CACHE).slice(0, -(KEPT - 1));
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

function isOfServer(pathname) {
  return BUILD.serverPaths.some((path) => pathname === path || pathname.startsWith(`${path}/`));
}

/** Every page is the same shell, which looks at the address. */
function page(request) {
  return fresh(request, "/");
}

/** From the network, or what was kept if that fails or takes too long. */
async function fresh(request, substitute) {
  try {
    const response = await Promise.race([fetch(request), patience()]);
    // A gateway answers so for a server that is down.
    if (response.status < 500) return response;
  } catch {
    // No network: what was kept is the answer.
  }
  const cache = await caches.open(CACHE);
  return (await cache.match(substitute, SAME)) ?? Response.error();
}

function patience() {
  return new Promise((_, reject) => setTimeout(() => reject(new Error("too late")), PATIENCE));
}

/** From whichever build has it, or from the network. */
async function kept(request) {
  return (await caches.match(request, SAME)) ?? fetch(request);
}
