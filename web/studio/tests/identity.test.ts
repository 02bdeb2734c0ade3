import { expect, test } from "vitest";
import { identityOf } from "../src/app/identity";

function tokenOf(claims: unknown): string {
  return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;
}

test("a token says who somebody is and what they may do", () => {
  const token = tokenOf({ sub: "ada", tenant: "acme", name: "Ada ~~~??? é ✓", scope: "moderate operate" });
  // Both letters that base64url has for itself.
  expect(token).toMatch(/-.*_|_.*-/);
  expect(identityOf("member", token)).toEqual({
    kind: "member",
    token,
    tenant: "acme",
    user: "ada",
    name: "Ada ~~~??? é ✓",
    scopes: ["moderate", "operate"],
  });
  const plain = identityOf("guest", tokenOf({ sub: "guest-1", tenant: "default", scope: "" }));
  expect(plain).toMatchObject({ name: undefined, scopes: [] });
});

const CLAIMS = [null, { name: "nobody" }, { tenant: "acme" }, { sub: "ada" }, { sub: "", tenant: "acme" }];

test.each(["", "nonsense", "a.b.c", ...CLAIMS.map(tokenOf)])("%j is no token", (text) => {
  expect(identityOf("member", text)).toBeUndefined();
});
