export * from "../src/index";
export * from "../src/redux";
