import { Firefox } from "./firefox.mjs";
import { testAll } from "./scenarios.mjs";

await testAll(Firefox);
