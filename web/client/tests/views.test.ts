// Where a feed begins, and of which log that is.

import { expect, test } from "vitest";
import { type Likes, likes, likesFeed } from "../src/likes";
import { Hand, Scene } from "./support/scene";

/** A client of a server whose views tell logs apart, or do not. */
function scene(how: { epoch: string | undefined }) {
  const scene = new Scene();
  const server = new Hand("opens", "sse");
  const asked: string[] = [];
  const fetch: typeof globalThis.fetch = async (input) => {
    const { pathname, searchParams } = new URL(String(input));
    asked.push(`${pathname.split("/").at(-1)} ${searchParams.get("at_least") ?? ""}`.trim());
    if (how.epoch === "unreachable") throw new TypeError("no network");
    const [epoch, position] = searchParams.get("at_least")?.split(":") ?? [];
    if (how.epoch !== undefined && epoch !== undefined && epoch !== how.epoch) {
      return Response.json({ code: "epoch_changed", epoch: how.epoch }, { status: 409 });
    }
    expect(position ?? "0", "nothing is waited for").toBe("0");
    return Response.json({ count: 12, me: true, version: 43 });
  };
  const client = scene.client({ models: [likes], transports: [server.open], fetch });
  const follow = (target: string) => client.follow<Likes>(likesFeed(target));
  const subscribed = () => server.sent.map((message) => ({ ...message, type: undefined, feed: undefined }));
  return { scene, server, asked, follow, subscribed, how };
}

test("a feed begins where a view stands, in the log that the view is of", async () => {
  const { scene: world, asked, follow, subscribed, how } = scene({ epoch: "e" });
  const articles = ["a", "b", "c"].map(follow);
  await world.clock.pass(100);
  expect(subscribed()).toEqual(Array(3).fill({ epoch: "e", last_sequence: 43 }));
  expect(articles.map(({ state }) => state.count)).toEqual([12, 12, 12]);
  // The name of the log is asked for once.
  expect(asked).toEqual(["a unknown:0", "a e:0", "b e:0", "c e:0"]);
  how.epoch = "f";
  follow("d");
  await world.clock.pass(100);
  expect(asked.slice(4)).toEqual(["d e:0", "d f:0"]);
  expect(subscribed().at(-1)).toEqual({ epoch: "f", last_sequence: 43 });
  follow("e");
  await world.clock.pass(100);
  expect(asked.slice(6)).toEqual(["e f:0"]);
});

test("of a server that does not tell logs apart a view is of any", async () => {
  const { scene: world, follow, subscribed } = scene({ epoch: undefined });
  follow("a");
  await world.clock.pass(100);
  expect(subscribed()).toEqual([{ last_sequence: 43 }]);
});

test("a view that cannot be asked leaves the whole history, and is asked the next time", async () => {
  const { scene: world, follow, subscribed, how, asked } = scene({ epoch: "unreachable" });
  follow("a");
  await world.clock.pass(100);
  expect(subscribed()).toEqual([{}]);
  how.epoch = "e";
  asked.length = 0;
  follow("b");
  await world.clock.pass(100);
  expect(asked).toEqual(["b unknown:0", "b e:0"]);
  expect(subscribed().at(-1)).toEqual({ epoch: "e", last_sequence: 43 });
});
