import { testAll } from "./scenarios.mjs";
import { WebKit } from "./webkit.mjs";

await testAll(WebKit);
