/** What only works outside a browser. */

export { FileStorage } from "./storage/file";
