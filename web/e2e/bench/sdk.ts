export * from "../../client/src";
export * from "../../client/src/likes";
